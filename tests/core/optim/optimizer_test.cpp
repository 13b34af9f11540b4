// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/optim/optimizer.hpp"

#include <array>
#include <cmath>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/optim/clip.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/tests/core/optim/pair.hpp"

namespace tugline {
namespace {

using ::testing::HasSubstr;

/// torch's optimizer of the same settings on the twins, with a learning rate that can be set per step.
std::unique_ptr<torch::optim::Optimizer> torch_optimizer(const OptimConfig& c, const std::vector<at::Tensor>& parameters) {
  using namespace torch::optim;
  if (c.name == "sgd") {
    return std::make_unique<SGD>(
        parameters,
        SGDOptions(1).momentum(c.momentum).dampening(c.dampening).nesterov(c.nesterov).weight_decay(c.weight_decay));
  }
  const auto betas = std::make_tuple(c.beta1, c.beta2);
  if (c.name == "adam") {
    return std::make_unique<torch::optim::Adam>(parameters,
                                                AdamOptions(1).betas(betas).eps(c.eps).weight_decay(c.weight_decay));
  }
  if (c.name == "adamw") {
    return std::make_unique<AdamW>(parameters, AdamWOptions(1).betas(betas).eps(c.eps).weight_decay(c.weight_decay));
  }
  return std::make_unique<torch::optim::Adagrad>(
      parameters, AdagradOptions(1).lr_decay(c.lr_decay).eps(c.eps).weight_decay(c.weight_decay));
}

double lr_of_step(std::int64_t step) { return 0.05 / static_cast<double>(1 + step % 3); }

void run_both(Pair& pair, const OptimConfig& config, std::int64_t steps, double grad_scale = 1) {
  const auto ours = make_optimizer(config, *pair.arena);
  const auto theirs = torch_optimizer(config, pair.theirs);
  for (std::int64_t step = 1; step <= steps; ++step) {
    pair.draw_gradients(1 / grad_scale);
    pair.step_all(*ours, lr_of_step(step), step, grad_scale);
    theirs->param_groups()[0].options().set_lr(lr_of_step(step));
    theirs->step();
  }
}

std::vector<OptimConfig> all_configs() {
  return {sgd(0, 0, false, 0), sgd(0.9, 0, true, 0.01), sgd(0.9, 0.3, false, 0.01),
          named("adam", 0.1),  named("adamw", 0.1),     named("adagrad", 0.1)};
}

// ATen's fused sgd does torch::optim::SGD's arithmetic operation by operation, so the bits are equal. With dampening this
// also shows that the first step takes the gradient undamped.
TEST(Optimizer, SgdEqualsTorchBitwise) {
  for (const OptimConfig& config : {sgd(0, 0, false, 0), sgd(0, 0, false, 0.01), sgd(0.9, 0, false, 0),
                                    sgd(0.9, 0, true, 0.01), sgd(0.9, 0.3, false, 0.01)}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
      Pair pair(dtype);
      run_both(pair, config, 10);
      EXPECT_TRUE(pair.equal()) << config.momentum << ' ' << config.dampening << ' ' << config.nesterov;
    }
  }
}

// The fused kernels multiply lr / bias correction before they divide by the root, torch::optim after: the last bit differs.
TEST(Optimizer, AdaptiveOnesEqualTorchToRounding) {
  for (const char* name : {"adam", "adamw", "adagrad"}) {
    for (const double weight_decay : {0.0, 0.1}) {
      SCOPED_TRACE(name);
      Pair narrow(at::kFloat), wide(at::kDouble);
      run_both(narrow, named(name, weight_decay), 10);
      run_both(wide, named(name, weight_decay), 10);
      EXPECT_LE(narrow.difference(), 1.2e-7);
      EXPECT_LE(wide.difference(), 1e-15);
    }
  }
}

TEST(Optimizer, GradScaleMultipliesGradientsFirst) {
  for (const OptimConfig& config : all_configs()) {
    SCOPED_TRACE(config.name);
    Pair narrow(at::kFloat), wide(at::kDouble), power_of_two(at::kFloat), plain(at::kFloat);
    run_both(narrow, config, 5, 0.3);
    run_both(wide, config, 5, 0.3);
    EXPECT_LE(narrow.difference(), 5e-7);
    EXPECT_LE(wide.difference(), 1e-14);  // a float32 scale would give 1e-8
    run_both(power_of_two, config, 5, 0.25);
    run_both(plain, config, 5);
    for (std::size_t i = 0; i < plain.ours.size(); ++i) EXPECT_TRUE(torch::equal(plain.ours[i], power_of_two.ours[i]));
  }
}

TEST(Optimizer, GradScaleLeavesScaledGradientsBehind) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    Pair pair(dtype);
    const auto optimizer = make_optimizer(sgd(0.9, 0, false, 0.1), *pair.arena);
    pair.draw_gradients();
    const at::Tensor before = pair.arena->flats()[0].gradients.clone();
    pair.step_all(*optimizer, 0.1, 1, 0.5);
    EXPECT_TRUE(torch::equal(pair.arena->flats()[0].gradients, before * 0.5));
  }
}

/// Steps `pair` 4 times with every segment cut into pieces at multiples of 64 bytes; by two threads when asked. Each is so much of a step.
void step_in_pieces(Pair& pair, const OptimConfig& config, std::int64_t piece_bytes, bool two_threads, double fraction = 1) {
  const auto optimizer = make_optimizer(config, *pair.arena);
  std::vector<std::pair<Range, int>> pieces;
  for (const auto& segment : pair.arena->segments()) {
    const std::int64_t piece =
        piece_bytes / pair.arena->flats()[static_cast<std::size_t>(segment.range.buffer)].values.element_size();
    for (std::int64_t begin = segment.range.begin; begin < segment.range.end; begin += piece) {
      pieces.push_back({{segment.range.buffer, begin, std::min(begin + piece, segment.range.end)}, segment.group});
    }
  }
  for (std::int64_t step = 1; step <= 4; ++step) {
    pair.draw_gradients();
    const auto step_every_second = [&](std::size_t first, std::size_t stride) {
      for (std::size_t i = first; i < pieces.size(); i += stride) {
        optimizer->step(pieces[i].first, pieces[i].second, {.lr = 0.1, .number = static_cast<double>(step) * fraction, .grad_scale = 0.7, .fraction = fraction});
      }
    };
    if (two_threads) {
      std::thread other(step_every_second, 1, 2);
      step_every_second(0, 2);
      other.join();
    } else {
      step_every_second(0, 1);
    }
  }
}

// What a device decides without the host: the same scale as a number there, and whether anything moves.
TEST(Optimizer, TakesItsScaleAndWhetherToMoveFromTensors) {
  for (const OptimConfig& config : all_configs()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
      Pair told(dtype), there(dtype);
      const auto by_number = make_optimizer(config, *told.arena), by_tensor = make_optimizer(config, *there.arena);
      for (int step = 1; step <= 4; ++step) {
        const double scale = 0.3 / step;
        const bool out = step % 2 == 1;
        told.draw_gradients();
        there.draw_gradients();
        for (const auto& segment : there.arena->segments()) {
          const Update update{.lr = 0.1, .number = static_cast<double>(step)};
          Update with_number = update, with_tensors = update;
          with_number.grad_scale = scale;
          with_tensors.scale_there = torch::tensor(scale, at::kDouble);
          with_tensors.left_out = torch::tensor({out ? 1.0F : 0.0F});
          if (!out) by_number->step(segment.range, segment.group, with_number);
          by_tensor->step(segment.range, segment.group, with_tensors);
        }
        for (std::size_t i = 0; i < told.ours.size(); ++i) EXPECT_TRUE(told.ours[i].equal(there.ours[i])) << config.name << " step " << step;
      }
      for (std::size_t i = 0; i < by_number->slots().size(); ++i) {
        EXPECT_TRUE(by_number->slots()[i].buffers[0].equal(by_tensor->slots()[i].buffers[0])) << config.name << ' ' << by_number->slots()[i].name;
      }
    }
  }
}

TEST(Optimizer, SteppingPiecesEqualsSteppingAllBitwise) {
  for (const OptimConfig& config : all_configs()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
      for (const double fraction : {1.0, 0.25, 0.97}) {
        SCOPED_TRACE(fmt::format("{} {} {}", config.name, toString(dtype), fraction));
        Pair whole(dtype);
        step_in_pieces(whole, config, 1 << 20, false, fraction);
        for (const std::int64_t piece_bytes : {64, 192, 4096}) {
          for (const bool two_threads : {false, true}) {
            Pair cut(dtype);
            step_in_pieces(cut, config, piece_bytes, two_threads, fraction);
            EXPECT_TRUE(torch::equal(whole.arena->flats()[0].values, cut.arena->flats()[0].values)) << piece_bytes;
          }
        }
      }
    }
  }
}

TEST(Optimizer, IntraOpThreadsDoNotChangeABit) {
  const int threads = at::get_num_threads();
  for (const OptimConfig& config : all_configs()) {
    SCOPED_TRACE(config.name);
    Pair one(at::kFloat), two(at::kFloat);
    at::set_num_threads(1);
    step_in_pieces(one, config, 1 << 20, false);
    at::set_num_threads(2);
    step_in_pieces(two, config, 1 << 20, false);
    EXPECT_TRUE(torch::equal(one.arena->flats()[0].values, two.arena->flats()[0].values));
  }
  at::set_num_threads(threads);
}

TEST(Optimizer, SlotsAreAllThatContinuingNeeds) {
  for (const OptimConfig& config : all_configs()) {
    SCOPED_TRACE(config.name);
    Pair straight(at::kFloat), resumed(at::kFloat);
    const auto optimizer = make_optimizer(config, *straight.arena);
    auto before = make_optimizer(config, *resumed.arena);
    std::unique_ptr<Optimizer> after;
    for (std::int64_t step = 1; step <= 6; ++step) {
      straight.draw_gradients();
      if (step == 4) {
        after = make_optimizer(config, *resumed.arena);
        ASSERT_EQ(after->slots().size(), before->slots().size());
        for (std::size_t s = 0; s < after->slots().size(); ++s) {
          EXPECT_EQ(after->slots()[s].name, before->slots()[s].name);
          after->slots()[s].buffers[0].copy_(before->slots()[s].buffers[0]);
        }
        before.reset();
      }
      for (const auto& segment : straight.arena->segments()) {
        resumed.arena->gradients(segment.range).copy_(straight.arena->gradients(segment.range));
      }
      straight.step_all(*optimizer, 0.1, step);
      resumed.step_all(step < 4 ? *before : *after, 0.1, step);
    }
    EXPECT_TRUE(torch::equal(straight.arena->flats()[0].values, resumed.arena->flats()[0].values));
  }
}

TEST(Optimizer, SlotsAreThereFromTheStartUnderTheirNames) {
  const auto names = [](const OptimConfig& config) {
    Pair pair(at::kFloat);
    std::vector<std::string> result;
    const auto optimizer = make_optimizer(config, *pair.arena);
    for (const auto& slot : optimizer->slots()) {
      EXPECT_EQ(slot.buffers[0].count_nonzero().item<std::int64_t>(), 0);
      result.push_back(slot.name);
    }
    return result;
  };
  EXPECT_THAT(names(sgd(0, 0, false, 0)), ::testing::IsEmpty());
  EXPECT_THAT(names(sgd(0.9, 0, false, 0)), ::testing::ElementsAre("momentum"));
  EXPECT_THAT(names(named("adam", 0)), ::testing::ElementsAre("exp_avg", "exp_avg_sq"));
  EXPECT_THAT(names(named("adamw", 0)), ::testing::ElementsAre("exp_avg", "exp_avg_sq"));
  EXPECT_THAT(names(named("adagrad", 0)), ::testing::ElementsAre("sum"));
}

TEST(Optimizer, SixteenBitParametersAreSteppedInFloat32) {
  for (const OptimConfig& config : all_configs()) {
    SCOPED_TRACE(config.name);
    Pair narrow(at::kBFloat16);
    const auto optimizer = make_optimizer(config, *narrow.arena);
    // One step from the same bfloat16 values in float32, rounded once at the end.
    std::vector<at::Tensor> wide;
    narrow.draw_gradients();
    for (const at::Tensor& parameter : narrow.theirs) {
      wide.push_back(parameter.detach().to(at::kFloat).requires_grad_(true));
      wide.back().mutable_grad() = parameter.grad().to(at::kFloat);
    }
    const auto reference = torch_optimizer(config, wide);
    reference->param_groups()[0].options().set_lr(0.1);
    narrow.step_all(*optimizer, 0.1, 1);
    reference->step();
    for (std::size_t i = 0; i < wide.size(); ++i) {
      EXPECT_TRUE(torch::allclose(narrow.ours[i].to(at::kFloat), wide[i].to(at::kBFloat16).to(at::kFloat), 1.0 / 128, 0));
    }
  }
}

TEST(Optimizer, GroupsHaveTheirOwnRateAndDecay) {
  OptimConfig config = sgd(0, 0, false, 0.5);
  config.groups = {{.match = "head.*", .lr_factor = 10}, {.match = "frozen?", .lr_factor = 0}};
  const std::vector<std::string> names = {"body.weight", "body.bias", "head.weight", "head.bias", "frozen1"};
  std::vector<NamedTensor> parameters;
  std::map<std::string, int> group;
  for (const std::string& name : names) {
    const std::vector<std::int64_t> shape(name.ends_with("bias") ? 1 : 2, 3);
    parameters.push_back({name, torch::ones(shape).requires_grad_(true)});
    group[name] = group_of(config, name, parameters.back().tensor.dim());
  }
  ArenaOptions options;
  options.group_of = [&](const std::string& name) { return group.at(name); };
  Arena arena(parameters, options);
  const auto optimizer = make_optimizer(config, arena);
  for (const auto& segment : arena.segments())
    optimizer->step(segment.range, segment.group, {.lr = 0.01});  // gradients are 0
  const auto value = [&](std::size_t i) { return parameters[i].tensor.flatten()[0].item<float>(); };
  EXPECT_FLOAT_EQ(value(0), 1 - 0.01F * 0.5F);
  EXPECT_FLOAT_EQ(value(1), 1);
  EXPECT_FLOAT_EQ(value(2), 1 - 0.1F * 0.5F);
  EXPECT_FLOAT_EQ(value(3), 1);
  EXPECT_FLOAT_EQ(value(4), 1);
}

TEST(Groups, FirstMatchWinsAndBiasesDoNotDecay) {
  OptimConfig config;
  config.weight_decay = 0.1;
  config.groups = {{.match = "block?.qkv.*", .lr_factor = 2}, {.match = "*.bias", .weight_decay = 0.3}, {.match = "*"}};
  const auto settings = [&](const std::string& name, std::int64_t dim) {
    const ParamGroup group = resolve_groups(config).at(static_cast<std::size_t>(group_of(config, name, dim)));
    return std::pair{group.lr_factor, group.weight_decay};
  };
  EXPECT_EQ(settings("block0.qkv.weight", 2), std::pair(2.0, 0.1));
  EXPECT_EQ(settings("block0.qkv.bias", 1), std::pair(2.0, 0.0));
  EXPECT_EQ(settings("output.bias", 1), std::pair(1.0, 0.3)) << "an explicit decay counts for biases too";
  EXPECT_EQ(settings("block10.qkv.weight", 2), std::pair(1.0, 0.1));
  EXPECT_EQ(settings("norm.weight", 1), std::pair(1.0, 0.0));
  config.decay_bias_and_norm = true;
  EXPECT_EQ(settings("norm.weight", 1), std::pair(1.0, 0.1));
  config.groups.clear();
  EXPECT_EQ(group_of(config, "norm.weight", 1), group_of(config, "output.weight", 2)) << "one group where one will do";
  config.decay_bias_and_norm = false;
  EXPECT_NE(group_of(config, "norm.weight", 1), group_of(config, "output.weight", 2));
  config.weight_decay = 0;
  EXPECT_EQ(group_of(config, "norm.weight", 1), group_of(config, "output.weight", 2));
}

TEST(Optimizer, SaysWhatDoesNotFit) {
  Pair pair(at::kFloat);
  const auto message_of = [&](const OptimConfig& config) -> std::string {
    try {
      make_optimizer(config, *pair.arena);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(message_of(named("lion", 0)), HasSubstr("optim.name: unknown optimizer 'lion'"));
  EXPECT_THAT(message_of(sgd(0, 0, true, 0)), HasSubstr("optim.nesterov"));
  EXPECT_THAT(message_of(sgd(0.9, 0.1, true, 0)), HasSubstr("optim.nesterov"));
}

std::vector<Range> all_ranges(const Arena& arena) {
  std::vector<Range> ranges;
  for (const auto& segment : arena.segments()) ranges.push_back(segment.range);
  return ranges;
}

TEST(Clip, NormIsExactInFloat64) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const at::Tensor parameter = torch::zeros({200'003}, dtype).requires_grad_(true);
    const Arena arena({{"p", parameter}}, {});
    parameter.mutable_grad().fill_(0.1);
    const double element = parameter.grad()[0].item<double>();
    EXPECT_NEAR(squared_norm(arena, std::array{arena.slots()[0].range}), 200'003 * element * element,
                1e-9);  // float32 sums would be off by 1e-3
  }
}

TEST(Clip, NormHasTheSameBitsForAnyNumberOfThreads) {
  const at::Tensor parameter = torch::zeros({300'001}).requires_grad_(true);
  const Arena arena({{"p", parameter}}, {});
  parameter.mutable_grad().normal_();
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const double one = squared_norm(arena, all_ranges(arena));
  at::set_num_threads(2);
  EXPECT_EQ(squared_norm(arena, all_ranges(arena)), one);
  at::set_num_threads(threads);
}

TEST(Clip, EqualsTorchsClipGradNorm) {
  for (const double max_norm : {0.5, 1e6}) {
    Pair pair(at::kDouble);
    pair.draw_gradients();
    const double norm = std::sqrt(squared_norm(*pair.arena, all_ranges(*pair.arena)));
    EXPECT_NEAR(torch::nn::utils::clip_grad_norm_(pair.theirs, max_norm), norm, 1e-12 * norm);
    const double factor = clip_factor(norm, max_norm);
    for (std::size_t i = 0; i < pair.ours.size(); ++i) {
      EXPECT_TRUE(torch::allclose(pair.ours[i].grad() * factor, pair.theirs[i].grad(), 1e-13, 0));
    }
  }
  EXPECT_EQ(clip_factor(0, 1), 1);
  EXPECT_EQ(clip_factor(std::numeric_limits<double>::infinity(), 1), 0);
}

TEST(Clip, ByValueCutsBothSides) {
  Pair pair(at::kFloat);
  pair.draw_gradients();
  clip_by_value(*pair.arena, all_ranges(*pair.arena), 0.5);
  for (std::size_t i = 0; i < pair.ours.size(); ++i) {
    EXPECT_TRUE(torch::equal(pair.ours[i].grad(), pair.theirs[i].grad().clamp(-0.5, 0.5)));
  }
}

}  // namespace
}  // namespace tugline
