// SPDX-License-Identifier: Apache-2.0
// Updates that are part of a step (Update::fraction).
#include <cmath>
#include <mutex>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tugline/core/optim/on_threads.hpp"
#include "tugline/core/optim/sgd_part.hpp"
#include "tugline/tests/core/optim/pair.hpp"

namespace tugline {
namespace {

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
  if (GetParam() == "adagrad") return;   // has no momentum
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
  if (slots.empty()) return {x - u.lr * u.fraction * g};
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

TEST(PartOfAStep, IsWhatItsFormulaSays) {
  for (const OptimConfig& config : {sgd(0, 0, false, 0.1), sgd(0.9, 0.3, false, 0.1), sgd(0.9, 0, true, 0.1), named("adam", 0.1), named("adamw", 0.1)}) {
    for (const auto& [dtype, tolerance] : {std::pair(at::kDouble, 1e-6), std::pair(at::kFloat, 1e-5), std::pair(at::kBFloat16, 1e-2)}) {   // adam counts steps in float32
      for (const double fraction : {0.125, 0.25, 0.9, 1.7, 2.5, 0.5}) {
        SCOPED_TRACE(fmt::format("{} {} {} {}", config.name, config.nesterov, toString(dtype), fraction));
        Pair pair(dtype);
        const auto optimizer = make_optimizer(config, *pair.arena);
        pair.draw_gradients();
        for (auto& slot : optimizer->slots()) slot.buffers[0].normal_().abs_().add_(0.2);
        const Update update{.lr = 0.5, .number = fraction == 0.5 ? fraction : 5 + fraction, .grad_scale = 0.3, .fraction = fraction};
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

TEST(UpdateCopy, GetsWhatTheValuesThenAreAndChangesNothing) {
  for (const OptimConfig& config : {sgd(0, 0, false, 0.1), sgd(0.9, 0, true, 0.1), named("adamw", 0.1), named("adagrad", 0.1)}) {
    for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
      for (const double fraction : {1.0, 0.25}) {
        SCOPED_TRACE(fmt::format("{} {} {} {}", config.name, config.momentum, toString(dtype), fraction));
        Pair plain(dtype), copied(dtype);
        const auto one = make_optimizer(config, *plain.arena), other = make_optimizer(config, *copied.arena);
        plain.draw_gradients();
        copied.draw_gradients();
        Update update{.lr = 0.5, .number = fraction, .grad_scale = 0.3, .fraction = fraction};
        for (const auto& segment : plain.arena->segments()) one->step(segment.range, segment.group, update);
        for (const auto& segment : copied.arena->segments()) {
          const at::Tensor copy = torch::zeros({segment.range.size()}, dtype);
          update.copy = &copy;
          other->step(segment.range, segment.group, update);
          EXPECT_TRUE(torch::equal(copy, copied.arena->values(segment.range)));
        }
        for (std::size_t i = 0; i < plain.ours.size(); ++i) EXPECT_TRUE(torch::equal(plain.ours[i], copied.ours[i]));
      }
    }
  }
}

/// Beyond what caches hold, on two threads, a range at once and piece by piece.
TEST(UpdateCopy, OfALargeModelIsTheSameOnAnyThreadsAndInAnyPieces) {
  constexpr std::int64_t kElements = (33 << 20) / 4, kPiece = 65536;
  const int threads = at::get_num_threads();
  const auto stepped = [&](int num_threads, std::int64_t piece) {
    at::set_num_threads(num_threads);
    torch::manual_seed(4);
    const at::Tensor parameter = torch::randn({kElements}).requires_grad_(true);
    Arena arena({{"p", parameter}}, {});
    const auto optimizer = make_optimizer(sgd(0.9, 0, false, 0.1), arena);
    at::Tensor(arena.flats()[0].gradients).normal_();
    const at::Tensor copy = torch::zeros_like(arena.flats()[0].values);
    for (int step = 1; step <= 2; ++step) {
      for (std::int64_t begin = 0; begin < kElements; begin += piece) {
        const Range range{0, begin, std::min(kElements, begin + piece)};
        const at::Tensor to = copy.narrow(0, begin, range.size());
        optimizer->step(range, 0, {.lr = 0.1, .number = step / 2.0, .grad_scale = 2, .fraction = 0.5, .copy = &to});
      }
    }
    EXPECT_TRUE(torch::equal(copy, arena.flats()[0].values));
    at::set_num_threads(threads);
    return copy;
  };
  const at::Tensor whole = stepped(1, kElements);
  EXPECT_TRUE(torch::equal(stepped(2, kElements), whole));
  EXPECT_TRUE(torch::equal(stepped(2, kPiece), whole));
}

TEST(OnThreads, EachTakesASlice) {
  const int threads = at::get_num_threads();
  const auto slices_of = [](const at::Tensor& flat) {
    std::mutex mutex;
    std::set<std::pair<std::int64_t, std::int64_t>> slices;
    on_threads(flat, 100, [&](std::int64_t begin, std::int64_t end) {
      const std::scoped_lock lock(mutex);
      slices.emplace(begin, end);
    });
    return slices;
  };
  using Slices = std::set<std::pair<std::int64_t, std::int64_t>>;
  at::set_num_threads(2);
  EXPECT_EQ(slices_of(torch::zeros(300)), (Slices{{0, 150}, {150, 300}}));
  EXPECT_EQ(slices_of(torch::zeros(500, at::kDouble).narrow(0, 100, 300)), (Slices{{0, 150}, {150, 300}}));
  EXPECT_EQ(slices_of(torch::zeros(199)), (Slices{{0, 199}}));
  EXPECT_EQ(slices_of(torch::zeros(0)), (Slices{{0, 0}}));
  at::set_num_threads(1);
  EXPECT_EQ(slices_of(torch::zeros(300)), (Slices{{0, 300}}));
  at::set_num_threads(threads);
}

template <typename T>
class SgdPartOf : public testing::Test {};
using Floats = testing::Types<float, double>;
TYPED_TEST_SUITE(SgdPartOf, Floats, );

TYPED_TEST(SgdPartOf, ElementsHasTheSameBitsWhereItsCopyGoesPastTheCaches) {
  const auto type = c10::CppTypeToScalarType<TypeParam>::value;
  const SgdPart part{.scale = 0.3, .decay = 0.1, .now = 0.2, .carry = 0.4, .keep = 0.8, .take = 0.5};
  for (const std::int64_t count : {1, 1024, 5003}) {
    for (const bool with_momentum : {false, true}) {
      for (const std::int64_t unaligned : {0, 1}) {
        SCOPED_TRACE(fmt::format("{} {} {}", count, with_momentum, unaligned));
        const at::Tensor gradients = torch::randn(count, type), start = torch::randn({2, count}, type), here = start.clone(), past = start.clone();
        const at::Tensor copy = torch::zeros(count, type), past_copy = torch::zeros(count + unaligned + 1, type);
        const auto step = [&](const at::Tensor& state, TypeParam* to, bool past_caches) {
          auto* const values = state.data_ptr<TypeParam>();
          part.step(SgdPart::Arrays<TypeParam>{values, gradients.const_data_ptr<TypeParam>(), with_momentum ? values + count : nullptr, to}, count, past_caches);
        };
        step(here, copy.data_ptr<TypeParam>(), false);
        step(past, past_copy.data_ptr<TypeParam>() + unaligned, true);
        EXPECT_TRUE(torch::equal(here, past));
        EXPECT_FALSE(torch::equal(here[0], start[0]));
        EXPECT_TRUE(torch::equal(copy, here[0]));
        EXPECT_TRUE(torch::equal(past_copy.narrow(0, unaligned, count), here[0]));
        EXPECT_EQ(past_copy[unaligned + count].template item<TypeParam>(), 0) << "wrote past the end";
      }
    }
  }
}

}  // namespace
}  // namespace tugline
