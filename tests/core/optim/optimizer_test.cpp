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

namespace tugline {
namespace {

using ::testing::HasSubstr;

/// Three parameters in an arena and their twins for torch::optim; gradients are the same for both.
class Pair {
 public:
  explicit Pair(at::ScalarType dtype, std::int64_t bucket_bytes = 1 << 20) {
    torch::manual_seed(4);
    const std::vector<std::vector<std::int64_t>> shapes = {{37, 53}, {53}, {20, 53}};
    std::vector<NamedTensor> named;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const at::Tensor value = torch::randn(shapes[i], dtype);
      theirs.push_back(value.clone().requires_grad_(true));
      ours.push_back(value.clone().requires_grad_(true));
      named.push_back({"p" + std::to_string(i), ours.back()});
    }
    ArenaOptions options;
    options.bucket_bytes = bucket_bytes;
    arena = std::make_unique<Arena>(named, options);
  }

  /// Fresh gradients, the same ones for every pair; ours may be scaled away from theirs, for grad_scale to scale them back.
  void draw_gradients(double scale_of_ours = 1) {
    torch::manual_seed(++draws_);
    for (std::size_t i = 0; i < ours.size(); ++i) {
      const at::Tensor gradient = torch::randn_like(theirs[i]);
      theirs[i].mutable_grad() = gradient.clone();
      ours[i].mutable_grad().copy_(gradient * scale_of_ours);
    }
  }

  void step_all(Optimizer& optimizer, double lr, std::int64_t step, double grad_scale = 1) {
    for (const auto& segment : arena->segments()) optimizer.step(segment.range, segment.group, {.lr = lr, .number = static_cast<double>(step), .grad_scale = grad_scale});
  }

  bool equal() const {
    return std::equal(ours.begin(), ours.end(), theirs.begin(),
                      [](const auto& a, const auto& b) { return torch::equal(a, b); });
  }
  /// Largest difference, relative to the largest parameter.
  double difference() const {
    double worst = 0;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      worst = std::max(worst, ((ours[i] - theirs[i]).abs().max() / theirs[i].abs().max()).item<double>());
    }
    return worst;
  }

  std::vector<at::Tensor> ours, theirs;
  std::unique_ptr<Arena> arena;

 private:
  std::uint64_t draws_ = 0;
};

OptimConfig sgd(double momentum, double dampening, bool nesterov, double weight_decay) {
  OptimConfig config;
  config.momentum = momentum;
  config.dampening = dampening;
  config.nesterov = nesterov;
  config.weight_decay = weight_decay;
  return config;
}

OptimConfig named(const std::string& name, double weight_decay) {
  OptimConfig config;
  config.name = name;
  config.weight_decay = weight_decay;
  config.lr_decay = 0.01;
  return config;
}

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

/// Updates of part of a step each, against whole steps.
class PartsOfSteps : public testing::TestWithParam<std::string> {
 protected:
  PartsOfSteps() {
    config_.name = GetParam() == "nesterov" ? "sgd" : GetParam();
    config_.nesterov = GetParam() == "nesterov";
    config_.lr = 0.01;
    config_.beta2 = 0.98;
    whole_ = make_optimizer(config_, *whole_pair_.arena);
    parts_ = make_optimizer(config_, *parts_pair_.arena);
  }
  void step_whole(double gradient) {
    for (auto& parameter : whole_pair_.ours) parameter.mutable_grad().fill_(gradient);
    whole_pair_.step_all(*whole_, config_.lr, ++steps_);
  }
  void step_part(double gradient, double fraction) {
    done_ += fraction;
    for (const auto& segment : parts_pair_.arena->segments()) {
      at::Tensor scaled = torch::full({segment.range.size()}, gradient / 4, at::kDouble);   // the arena's own is not looked at
      parts_pair_.arena->gradients(segment.range).fill_(7);
      parts_->step(segment.range, segment.group,
                   {.lr = config_.lr, .number = done_, .first = done_ == fraction, .grad_scale = 4, .fraction = fraction, .gradients = &scaled});
    }
  }
  static double moved(const Pair& pair) {
    torch::manual_seed(4);
    return (torch::randn({37, 53}, at::kDouble) - pair.ours[0]).mean().item<double>();
  }
  double largest_difference(std::size_t slot) const {
    double largest = 0;
    for (const auto& where : whole_pair_.arena->slots()) {
      const auto of = [&](const Pair& pair, Optimizer& optimizer) { return pair.arena->view(optimizer.slots()[slot].buffers, where); };
      largest = std::max(largest, (of(whole_pair_, *whole_) - of(parts_pair_, *parts_)).abs().max().item<double>());
    }
    return largest;
  }
  bool is_adam() const { return GetParam().starts_with("adam"); }

  OptimConfig config_;
  Pair whole_pair_{at::kDouble}, parts_pair_{at::kDouble};
  std::unique_ptr<Optimizer> whole_, parts_;
  int steps_ = 0;
  double done_ = 0;
};
INSTANTIATE_TEST_SUITE_P(All, PartsOfSteps, testing::Values("sgd", "nesterov", "adam", "adamw", "adagrad"));

TEST_P(PartsOfSteps, GoAsFarAndForgetAsMuchUnderAGradientThatStaysTheSame) {
  for (int step = 0; step < 60; ++step) {
    step_whole(2);
    for (const double fraction : {0.5, 0.125, 0.375}) step_part(2, fraction);
  }
  for (std::size_t slot = 0; slot < whole_->slots().size(); ++slot) {
    const bool momentum = whole_->slots()[slot].name == "momentum" || whole_->slots()[slot].name == "exp_avg";
    const double value = std::abs(whole_->slots()[slot].buffers[0][0].item<double>());
    EXPECT_LE(largest_difference(slot), (momentum ? 0.04 : 1e-9) * value);   // within a step some of a gradient is forgotten already
  }
  EXPECT_GT(moved(whole_pair_), 0.1);
  EXPECT_NEAR(moved(parts_pair_) / moved(whole_pair_), 1, GetParam() == "adagrad" ? 0.2 : 0.03);   // adagrad's first step is long
}

TEST_P(PartsOfSteps, LeaveWhatAStepLeavesWhereNoGradientComes) {
  for (int step = 0; step < 60; ++step) {
    step_whole(step % 3 - 0.5);
    step_part(step % 3 - 0.5, 1);
  }
  const double before = moved(whole_pair_);
  step_whole(0);
  for (const double fraction : {0.5, 0.125, 0.375}) step_part(0, fraction);
  for (std::size_t slot = 0; slot < whole_->slots().size(); ++slot) EXPECT_LE(largest_difference(slot), 1e-12);
  const double went = moved(whole_pair_) - before;
  EXPECT_NEAR(moved(parts_pair_) - before, went, is_adam() ? 0.01 * std::abs(went) : 1e-12);   // adam's squares fade within the step
}

/// Delayed gradients need that: what moves the parameters later than it could is what makes them swing.
TEST_P(PartsOfSteps, GoTheirPartOfTheWayAtOnceAndInTheEnd) {
  if (GetParam() == "adagrad") GTEST_SKIP() << "has no momentum";
  step_whole(2);
  step_part(2, 0.25);
  EXPECT_NEAR(moved(parts_pair_), 0.25 * moved(whole_pair_), 1e-9);
  if (is_adam()) return;   // what it moves later is by how much came until then
  for (int step = 0; step < 400; ++step) {
    step_whole(0);
    step_part(0, 1);
  }
  EXPECT_NEAR(moved(whole_pair_), config_.lr * 2 / (1 - config_.momentum), 1e-9);
  EXPECT_NEAR(moved(parts_pair_), 0.25 * moved(whole_pair_), 1e-9);
}

TEST_P(PartsOfSteps, AreAStepWhereTheyAreNearlyOne) {
  for (const double gradient : {2.0, -1.0, 3.0}) {
    step_whole(gradient);
    step_part(gradient, 1 - 1e-9);
  }
  for (std::size_t slot = 0; slot < whole_->slots().size(); ++slot) EXPECT_LE(largest_difference(slot), 1e-6);
  EXPECT_NEAR(moved(parts_pair_), moved(whole_pair_), 1e-6 * std::abs(moved(whole_pair_)));
}

/// One update from any state, in plain arithmetic: values, then slots.
std::vector<at::Tensor> expected_part(const OptimConfig& c, const Update& u, at::Tensor x, std::vector<at::Tensor> slots, at::Tensor g) {
  const bool is_sgd = c.name == "sgd";
  const double decay = is_sgd ? c.momentum : c.beta1, kept = std::pow(decay, u.fraction), carried = decay * (1 - kept) / (1 - decay);
  g = g * u.grad_scale;
  if (c.name != "adamw") g = g + c.weight_decay * x;
  if (is_sgd) {
    const double ahead = c.nesterov ? c.momentum : 0, taken = u.fraction * (1 - c.dampening);
    return {x - u.lr * ((c.nesterov ? c.momentum : 1) * carried * slots[0] + taken * (1 + ahead) * g), kept * slots[0] + taken * g};
  }
  const double taken = u.fraction * (1 - decay), kept2 = std::pow(c.beta2, u.fraction);
  const double weight = carried * taken * (1 - std::pow(decay, u.number - u.fraction)) / (1 - kept) + taken;
  const at::Tensor squares = kept2 * slots[1] + (1 - kept2) * g * g, root = (squares / (1 - std::pow(c.beta2, u.number))).sqrt() + c.eps;
  if (c.name == "adamw") x = x * (1 - u.lr * u.fraction * c.weight_decay);
  return {x - u.lr * u.fraction * (carried * slots[0] + taken * g) / weight / root, kept * slots[0] + taken * g, squares};
}

TEST(Optimizer, APartOfAStepIsWhatItsFormulaSays) {
  for (const OptimConfig& config : {sgd(0.9, 0.3, false, 0.1), sgd(0.9, 0, true, 0.1), named("adam", 0.1), named("adamw", 0.1)}) {
    for (const auto& [dtype, tolerance] : {std::pair(at::kDouble, 1e-6), std::pair(at::kFloat, 1e-5), std::pair(at::kBFloat16, 1e-2)}) {   // adam counts steps in float32
      for (const double fraction : {0.125, 0.25, 0.8, 0.89, 0.91, 0.95, 1.7, 1.98, 2.5}) {   // on both sides of where the kernel would do
        SCOPED_TRACE(fmt::format("{} {} {} {}", config.name, config.nesterov, toString(dtype), fraction));
        Pair pair(dtype);
        const auto optimizer = make_optimizer(config, *pair.arena);
        pair.draw_gradients();
        for (auto& slot : optimizer->slots()) slot.buffers[0].normal_().abs_().add_(0.2);
        const Update update{.lr = 0.05, .number = 5 + fraction, .grad_scale = 0.3, .fraction = fraction};
        const auto& flat = pair.arena->flats()[0];
        std::vector<at::Tensor> slots;
        for (auto& slot : optimizer->slots()) slots.push_back(slot.buffers[0].to(at::kDouble, false, true));
        const auto expected = expected_part(config, update, flat.values.to(at::kDouble, false, true), slots, flat.gradients.to(at::kDouble, false, true));
        for (const auto& segment : pair.arena->segments()) optimizer->step(segment.range, segment.group, update);
        std::vector<at::Tensor> got{flat.values};
        for (auto& slot : optimizer->slots()) got.push_back(slot.buffers[0]);
        for (const auto& where : pair.arena->slots()) {
          for (std::size_t i = 0; i < got.size(); ++i) {
            const auto part = [&](const at::Tensor& whole) { return whole.narrow(0, where.range.begin, where.range.size()).to(at::kDouble); };
            EXPECT_TRUE(torch::allclose(part(got[i]), part(expected[i]), tolerance, tolerance)) << "tensor " << i;
          }
        }
      }
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
