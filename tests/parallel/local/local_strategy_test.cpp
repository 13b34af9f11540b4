// SPDX-License-Identifier: Apache-2.0
// Rounds of local steps against replicas that are stepped by hand in one process.
#include "tugline/parallel/local/local_strategy.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include <torch/torch.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/models/module_tensors.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/node/node_memory.hpp"
#include "tugline/parallel/replicas.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/support/mpi_world.hpp"

namespace tugline {
namespace {

constexpr std::int64_t kSamples = 11, kBatch = 4, kFeatures = 5, kOutputs = 3, kSteps = 12;
constexpr double kLr = 0.05, kMomentum = 0.9;

torch::nn::Sequential make_model() {
  torch::manual_seed(5);
  return torch::nn::Sequential(torch::nn::Linear(kFeatures, 7), torch::nn::Tanh(), torch::nn::Linear(7, kOutputs));
}

at::Tensor values_of(torch::nn::Sequential& model) {
  std::vector<at::Tensor> parts;
  for (const auto& parameter : model->parameters()) parts.push_back(parameter.detach().flatten().clone());
  return torch::cat(parts);
}

/// Weighted squared errors: sample i weighs 1 + i % 3.
struct Data {
  at::Tensor inputs, targets, weights;
  Data() {
    torch::manual_seed(6);
    inputs = torch::randn({kSamples, kFeatures});
    targets = torch::randn({kSamples, kOutputs});
    weights = 1 + torch::arange(kSamples) % 3;
  }
  at::Tensor loss_sum(torch::nn::Sequential& model, const Piece& piece) const {
    const at::Tensor errors = (model->forward(inputs.slice(0, piece.begin, piece.end)) - targets.slice(0, piece.begin, piece.end)).pow(2).sum(1);
    return (errors * weights.slice(0, piece.begin, piece.end)).sum();
  }
  double weight(const Piece& piece) const { return weights.slice(0, piece.begin, piece.end).sum().item<double>(); }
};

/// The replicas of all ranks, by hand: sgd with momentum inside, Nesterov outside.
class ByHand {
 public:
  ByHand(int ranks, const LocalOptions& options, double outer_momentum)
      : options_(options), outer_momentum_(outer_momentum), weights_(static_cast<std::size_t>(ranks), 0) {
    torch::nn::Sequential model = make_model();
    start_ = values_of(model);
    outer_ = torch::zeros_like(start_);
    for (int r = 0; r < ranks; ++r) {
      replicas_.push_back(start_.clone());
      momenta_.push_back(torch::zeros_like(start_));
    }
  }
  void step(const Data& data, const Piece& global) {
    const int ranks = static_cast<int>(replicas_.size());
    for (int r = 0; r < ranks; ++r) {
      const Piece piece = equal_share(global, r, ranks);
      if (piece.size() == 0) continue;
      const auto i = static_cast<std::size_t>(r);
      momenta_[i].mul_(kMomentum).add_(gradient(data, piece, replicas_[i]));
      replicas_[i].sub_(momenta_[i] * kLr);
      weights_[i] += data.weight(piece);
    }
    const bool alone = global.step + 1 <= options_.sync_steps;
    if (++steps_ == options_.steps || alone || global.step + 1 == kSteps) end_round();
  }
  const at::Tensor& values(int rank) const { return replicas_[static_cast<std::size_t>(rank)]; }
  bool settled() const { return steps_ == 0; }

 private:
  static at::Tensor gradient(const Data& data, const Piece& piece, const at::Tensor& values) {
    torch::nn::Sequential model = make_model();
    {
      torch::NoGradGuard no_grad;
      std::int64_t at = 0;
      for (auto& parameter : model->parameters()) {
        parameter.copy_(values.slice(0, at, at + parameter.numel()).view_as(parameter));
        at += parameter.numel();
      }
    }
    (data.loss_sum(model, piece) / data.weight(piece)).backward();
    std::vector<at::Tensor> parts;
    for (const auto& parameter : model->parameters()) parts.push_back(parameter.grad().flatten());
    return torch::cat(parts);
  }
  void end_round() {
    double all = 0;
    for (const double weight : weights_) all += weight;
    at::Tensor moved = torch::zeros_like(start_), momentum = torch::zeros_like(start_);
    for (std::size_t r = 0; r < replicas_.size(); ++r) {
      moved += (start_ - replicas_[r]) * (weights_[r] / all);
      momentum += momenta_[r] * (weights_[r] / all);
    }
    outer_.mul_(outer_momentum_).add_(moved);
    start_ = start_ - options_.outer_lr * (moved + outer_momentum_ * outer_);
    for (std::size_t r = 0; r < replicas_.size(); ++r) {
      replicas_[r] = start_.clone();
      momenta_[r] = options_.average_state ? momentum.clone() : torch::zeros_like(start_);
      weights_[r] = 0;
    }
    steps_ = 0;
  }

  LocalOptions options_;
  double outer_momentum_;
  at::Tensor start_, outer_;
  std::vector<at::Tensor> replicas_, momenta_;
  std::vector<double> weights_;
  std::int64_t steps_ = 0;
};

enum class Path { message, ring, shared };

class LocalStrategyTest : public MpiWorldTest, public testing::WithParamInterface<Path> {
 protected:
  void start(LocalOptions options, double outer_momentum) {
    config_.momentum = kMomentum;
    config_.lr = kLr;
    ArenaOptions arena_options;
    arena_options.bucket_bytes = 64;   // many buckets
    options.exchange.ring = GetParam() == Path::ring;
    if (GetParam() == Path::shared) {
      options.node = std::make_shared<NodeTeam>(world_);
      arena_options.allocator = shared_gradients(options.node);
    }
    arena_ = std::make_unique<Arena>(named_parameters_of(*model_), arena_options);
    if (options.node) options.node->barrier();
    inner_ = make_optimizer(config_, *arena_);
    outer_ = make_outer_optimizer(outer_momentum, *arena_);
    const StepPlan plan{kSamples, kBatch, false, kSteps};
    strategy_ = std::make_unique<LocalStrategy>(world_.communicator(), world_.control(), *arena_, *inner_, *outer_,
                                                Schedule(config_, {kSteps, plan.steps_per_epoch(), kBatch}), plan, options);
  }
  StepFacts step(bool broken = false) {
    piece_ = strategy_->next_piece().value();
    strategy_->begin_step(piece_.size() > 0 ? 1 : 0, static_cast<double>(piece_.global_size()));
    StepReport report;
    if (piece_.size() > 0) {
      at::Tensor sum = data_.loss_sum(model_, piece_);
      if (broken) sum = sum * std::numeric_limits<double>::quiet_NaN();
      report.weight = data_.weight(piece_);
      report.loss_sum = sum.item<double>();
      (sum / static_cast<double>(piece_.global_size())).backward();
    }
    return strategy_->finish_step(report);
  }
  void expect_by_hand(const LocalOptions& options, double outer_momentum) {
    start(options, outer_momentum);
    ByHand by_hand(world_.size(), options, outer_momentum);
    for (std::int64_t i = 0; i < kSteps; ++i) {
      const StepFacts facts = step();
      by_hand.step(data_, StepPlan{kSamples, kBatch, false, kSteps}.global_piece(i));
      ASSERT_EQ(facts.settled, by_hand.settled()) << "step " << i + 1;
      ASSERT_LE((values_of(model_) - by_hand.values(world_.rank())).abs().max().item<double>(), 2e-6) << "step " << i + 1;
      EXPECT_EQ(facts.bytes_sent > 0, facts.settled && world_.size() > 1);
      if (facts.settled) {
        require_same_bits(world_.control(), *arena_, {arena_->flats()[0].values}, "parameter");
        for (const auto& slot : inner_->slots()) require_same_bits(world_.control(), *arena_, slot.buffers, "momentum of");
      }
    }
    EXPECT_FALSE(strategy_->next_piece().has_value());
  }

  Data data_;
  OptimConfig config_;
  torch::nn::Sequential model_ = make_model();
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Optimizer> inner_, outer_;
  std::unique_ptr<LocalStrategy> strategy_;
  Piece piece_;
};
INSTANTIATE_TEST_SUITE_P(, LocalStrategyTest, testing::Values(Path::message, Path::ring, Path::shared), [](const auto& info) {
  return info.param == Path::message ? "message" : info.param == Path::ring ? "ring" : "shared";
});

TEST_P(LocalStrategyTest, AveragesReplicasAfterEachRound) { expect_by_hand({.steps = 5}, 0); }

TEST_P(LocalStrategyTest, MakesNesterovStepsAgainstTheMeanMove) { expect_by_hand({.steps = 4, .outer_lr = 0.7}, 0.9); }

TEST_P(LocalStrategyTest, MayForgetTheInnerState) { expect_by_hand({.steps = 3, .average_state = false}, 0); }

TEST_P(LocalStrategyTest, BeginsWithRoundsOfOneStep) { expect_by_hand({.steps = 4, .sync_steps = 3}, 0); }

/// With linear optimizers the mean of the replicas after one step is the step along the mean gradient.
TEST_P(LocalStrategyTest, RoundsOfOneStepAreSynchronous) {
  start({.steps = 1}, 0);
  at::Tensor values, momentum = torch::zeros_like(values_of(model_));
  for (std::int64_t i = 0; i < kSteps; ++i) {
    const Piece global = StepPlan{kSamples, kBatch, false, kSteps}.global_piece(i);
    Piece whole = global;
    whole.begin = global.global_begin;
    whole.end = global.global_end;
    torch::nn::Sequential copy = make_model();
    for (std::size_t p = 0; p < copy->parameters().size(); ++p) copy->parameters()[p].data().copy_(model_->parameters()[p].data());
    (data_.loss_sum(copy, whole) / data_.weight(whole)).backward();
    std::vector<at::Tensor> parts;
    for (const auto& parameter : copy->parameters()) parts.push_back(parameter.grad().flatten());
    momentum.mul_(kMomentum).add_(torch::cat(parts));
    const at::Tensor wanted = values_of(model_) - kLr * momentum;
    step();
    ASSERT_LE((values_of(model_) - wanted).abs().max().item<double>(), 2e-6) << "step " << i + 1;
  }
}

/// Adam's first step is as long as the learning rate, whatever the gradient: in each round, when it forgets.
TEST_P(LocalStrategyTest, AnInnerStateThatIsForgottenBeginsAsANewOne) {
  config_.name = "adam";
  start({.steps = 1, .average_state = false}, 0);
  for (std::int64_t i = 0; i < kSteps; ++i) {
    const at::Tensor before = values_of(model_);
    step();
    const double longest = (values_of(model_) - before).abs().max().item<double>();
    EXPECT_LE(longest, 1.001 * kLr) << "step " << i + 1;
    EXPECT_GE(longest, 0.99 * kLr) << "step " << i + 1;
  }
}

/// Momentum travels in 16 bits. Squares would stand still, and are what they are without rounding.
TEST_P(LocalStrategyTest, MomentumIsRoundedAndSquaresAreNot) {
  if (GetParam() != Path::ring || world_.size() == 1) GTEST_SKIP() << "the ring alone rounds";
  config_.name = "adam";
  const auto slots_after_a_round = [&](bool rounded) {
    strategy_.reset();
    model_ = make_model();
    LocalOptions options{.steps = 2};
    options.exchange.bfloat16 = rounded;
    start(options, 0);
    step();
    step();
    std::vector<at::Tensor> slots;
    for (const auto& slot : inner_->slots()) slots.push_back(slot.buffers.front().clone());
    return slots;
  };
  const auto exact = slots_after_a_round(false), rounded = slots_after_a_round(true);
  ASSERT_EQ(exact.size(), 2U);
  EXPECT_TRUE(rounded[0].equal(rounded[0].to(at::kBFloat16).to(at::kFloat)));
  EXPECT_LE((rounded[0] - exact[0]).abs().max().item<double>(), 0.01 * exact[0].abs().max().item<double>());
  EXPECT_TRUE(rounded[1].equal(exact[1])) << "squares differ by " << (rounded[1] - exact[1]).abs().max();
}

/// What rounding leaves over of the moves goes on with a run; of momentum nothing is kept that a run which goes on would lack.
TEST_P(LocalStrategyTest, ARunThatGoesOnRoundsWhatTheOtherDoes) {
  if (GetParam() != Path::ring || world_.size() == 1) GTEST_SKIP() << "the ring alone rounds";
  const auto after_two_rounds = [&](bool stops) {
    strategy_.reset();
    model_ = make_model();
    LocalOptions options{.steps = 2};
    options.exchange = {.ring = true, .bfloat16 = true};
    start(options, 0);
    step();
    step();
    if (stops) {
      std::vector<std::vector<float>> kept;
      for (const Residual& residual : strategy_->residuals()) kept.emplace_back(residual.values.begin(), residual.values.end());
      options.first_step = 2;
      const StepPlan plan{kSamples, kBatch, false, kSteps};
      strategy_ = std::make_unique<LocalStrategy>(world_.communicator(), world_.control(), *arena_, *inner_, *outer_,
                                                  Schedule(config_, {kSteps, plan.steps_per_epoch(), kBatch}), plan, options);
      for (std::size_t i = 0; i < kept.size(); ++i) std::copy(kept[i].begin(), kept[i].end(), strategy_->residuals()[i].values.begin());
    }
    step();
    step();
    return torch::cat({values_of(model_), inner_->slots().front().buffers.front()});
  };
  const at::Tensor whole = after_two_rounds(false), resumed = after_two_rounds(true);
  EXPECT_TRUE(resumed.equal(whole)) << (resumed - whole).abs().max();
}

TEST_P(LocalStrategyTest, FrozenParametersStayAndTheRestGoesOn) {
  model_[0]->as<torch::nn::Linear>()->bias.set_requires_grad(false);
  const at::Tensor frozen = model_[0]->as<torch::nn::Linear>()->bias.detach().clone();
  start({.steps = 4}, 0.9);
  const at::Tensor before = values_of(model_);
  for (std::int64_t i = 0; i < kSteps; ++i) step();
  EXPECT_TRUE((model_[0]->as<torch::nn::Linear>()->bias.equal(frozen)));
  EXPECT_GT((values_of(model_) - before).abs().max().item<double>(), 1e-3);
  require_same_bits(world_.control(), *arena_, {arena_->flats()[0].values}, "parameter");
}

TEST_P(LocalStrategyTest, AStepThatIsNotFiniteOnOneRankIsMadeByNone) {
  start({.steps = 2}, 0);
  step();
  const at::Tensor before = values_of(model_);
  const StepFacts facts = step(world_.rank() == world_.size() - 1);
  EXPECT_FALSE(facts.finite);
  EXPECT_FALSE(facts.settled) << "the round waits for a good step";
  EXPECT_TRUE(values_of(model_).equal(before));
  EXPECT_TRUE(step().settled);
}

}  // namespace
}  // namespace tugline
