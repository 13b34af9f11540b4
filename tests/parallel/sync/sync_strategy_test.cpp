// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/sync/sync_strategy.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <numeric>

#include <torch/torch.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/models/module_tensors.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/node/node_memory.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/support/mpi_world.hpp"

namespace tugline {
namespace {

constexpr std::int64_t kSamples = 11, kBatch = 4, kFeatures = 5, kOutputs = 3;

torch::nn::Sequential make_model() {
  torch::manual_seed(5);
  return torch::nn::Sequential(torch::nn::Linear(kFeatures, 7), torch::nn::Tanh(), torch::nn::Linear(7, kOutputs));
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
  at::Tensor loss_sum(torch::nn::Sequential& model, std::int64_t begin, std::int64_t end) const {
    const at::Tensor errors = (model->forward(inputs.slice(0, begin, end)) - targets.slice(0, begin, end)).pow(2).sum(1);
    return (errors * weights.slice(0, begin, end)).sum();
  }
  at::Tensor each_loss(torch::nn::Sequential& model) const {
    torch::NoGradGuard no_grad;
    return (model->forward(inputs) - targets).pow(2).sum(1) * weights;
  }
  double weight(std::int64_t begin, std::int64_t end) const { return weights.slice(0, begin, end).sum().item<double>(); }
};

/// How gradients become sums: by the backend's messages or the ring's, or in the shared memory of each host, with a copy of the parameters
/// per rank or per host.
enum class Path { message, ring, write_back, common };
const auto kPaths = testing::Values(Path::message, Path::ring, Path::write_back, Path::common);
std::string name_of(Path path) {
  return path == Path::message ? "message" : path == Path::ring ? "ring" : path == Path::write_back ? "write_back" : "common";
}

class SyncStrategyTest : public MpiWorldTest {
 protected:
  SyncStrategyTest() {
    config_.name = "sgd";
    config_.lr = 0.1;
    config_.momentum = 0.9;
  }
  void start(Path path, SyncOptions options = {}, std::int64_t steps = 12) {
    ArenaOptions arena_options;
    arena_options.bucket_bytes = 64;   // many buckets
    options.exchange.ring = path != Path::message;
    node_.reset();
    if (path == Path::write_back || path == Path::common) {
      options.node = std::make_shared<NodeTeam>(world_);
      arena_options.allocator = path == Path::common ? shared_everything(options.node) : shared_gradients(options.node);
      arena_options.values_are_there = path == Path::common && options.node->rank() != 0;
    }
    strategy_.reset();
    node_ = options.node;
    arena_ = std::make_unique<Arena>(named_parameters_of(*model_), arena_options);
    if (options.node) options.node->barrier();
    optimizer_ = make_optimizer(config_, *arena_);
    const StepPlan plan{kSamples, kBatch, false, steps};
    strategy_ = std::make_unique<SyncStrategy>(world_.communicator(), world_.control(), *arena_, *optimizer_,
                                               Schedule(config_, {steps, plan.steps_per_epoch(), kBatch}), plan, options);
  }
  /// One step; `change` may alter this rank's report and its loss (undefined where the piece is empty).
  StepFacts step(const std::function<void(StepReport&, at::Tensor&)>& change = nullptr) {
    piece_ = strategy_->next_piece().value();
    strategy_->begin_step(piece_.size() > 0 ? 1 : 0, static_cast<double>(piece_.global_size()));
    StepReport report;
    at::Tensor sum;
    if (piece_.size() > 0) {
      sum = data_.loss_sum(model_, piece_.begin, piece_.end);
      report.weight = data_.weight(piece_.begin, piece_.end);
    }
    if (change) change(report, sum);
    if (piece_.size() > 0) {
      report.loss_sum = sum.item<double>();
      (sum / static_cast<double>(piece_.global_size())).backward();
    }
    return strategy_->finish_step(report);
  }
  at::Tensor values() const {
    std::vector<at::Tensor> parts;
    for (const auto& parameter : model_->parameters()) parts.push_back(parameter.detach().flatten().clone());
    return torch::cat(parts);
  }

  void set_values(const at::Tensor& flat) {
    world_.control().barrier();
    if (!node_ || !node_->is_common(arena_->flats()[0].values.data_ptr()) || node_->rank() == 0) {   // a common copy has one writer
      torch::NoGradGuard no_grad;
      std::int64_t at = 0;
      for (auto& parameter : model_->parameters()) {
        parameter.copy_(flat.slice(0, at, at + parameter.numel()).view_as(parameter));
        at += parameter.numel();
      }
    }
    world_.control().barrier();
  }

  OptimConfig config_;
  Data data_;
  torch::nn::Sequential model_ = make_model();
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<SyncStrategy> strategy_;
  std::shared_ptr<NodeTeam> node_;
  Piece piece_;
};

class EveryPath : public SyncStrategyTest, public testing::WithParamInterface<Path> {};
INSTANTIATE_TEST_SUITE_P(, EveryPath, kPaths, [](const auto& info) { return name_of(info.param); });

struct Clip {
  double norm = 0, value = 0;
};
class EveryClip : public SyncStrategyTest, public testing::WithParamInterface<std::tuple<Path, Clip>> {};
INSTANTIATE_TEST_SUITE_P(, EveryClip, testing::Combine(kPaths, testing::Values(Clip{}, Clip{0.5, 0}, Clip{1e3, 0}, Clip{0, 0.05},
                                                                                Clip{0.5, 0.1})));

/// The reference: one process, the mean loss of the global batch, torch's own clipping and optimizer.
TEST_P(EveryClip, StepsAreThoseOfTorchOnTheGlobalBatch) {
  const auto [path, clip] = GetParam();
  const auto [norm, value] = clip;
  auto reference = make_model();
  torch::optim::SGD optimizer(reference->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  start(path, {.clip_norm = norm, .clip_value = value});
  for (int i = 0; i < 9; ++i) {
    const StepFacts facts = step();
    optimizer.zero_grad();
    const std::int64_t begin = piece_.global_begin, end = piece_.global_end;
    (data_.loss_sum(reference, begin, end) / data_.weight(begin, end)).backward();
    if (norm > 0) {
      EXPECT_NEAR(facts.steps.front().gradient_norm, torch::nn::utils::clip_grad_norm_(reference->parameters(), norm), 1e-5);
    }
    if (value > 0) torch::nn::utils::clip_grad_value_(reference->parameters(), value);
    optimizer.step();
    std::vector<at::Tensor> wanted;
    for (const auto& parameter : reference->parameters()) wanted.push_back(parameter.detach().flatten());
    ASSERT_LE((values() - torch::cat(wanted)).abs().max().item<double>(), 2e-6) << "step " << i;
  }
}

TEST_P(EveryPath, FactsAddUpOverTheRanks) {
  start(GetParam());
  for (int i = 0; i < 6; ++i) {
    const at::Tensor losses = data_.each_loss(model_);
    const double before = Clock::steady().seconds();
    const StepFacts facts = step([](StepReport& report, at::Tensor&) {
      report.correct = 1;
      report.counted = report.weight;
    });
    const double wall = Clock::steady().seconds() - before;
    const std::int64_t begin = piece_.global_begin, end = piece_.global_end;
    EXPECT_EQ(piece_.global_size(), i % 3 == 2 ? 3 : 4);
    std::int64_t samples = 0;
    for (const RankStep& part : facts.steps.front().ranks) samples += part.samples;
    EXPECT_EQ(samples, piece_.global_size());
    for (int r = 0; r < world_.size(); ++r) {
      EXPECT_EQ(facts.steps.front().ranks.at(static_cast<std::size_t>(r)).samples, equal_share(piece_, r, world_.size()).size());
    }
    EXPECT_EQ(facts.steps.front().weight, data_.weight(begin, end));
    EXPECT_EQ(facts.steps.front().counted, facts.steps.front().weight);
    EXPECT_EQ(facts.steps.front().correct, world_.size());
    EXPECT_NEAR(facts.steps.front().loss, losses.slice(0, begin, end).sum().item<double>() / facts.steps.front().weight, 1e-5);
    EXPECT_EQ(facts.steps.front().lr, 0.1);
    EXPECT_TRUE(facts.finite);
    EXPECT_EQ(facts.stop, StopReason::none);
    EXPECT_EQ(facts.bytes_sent > 0, world_.size() > 1);
    for (const double seconds : {facts.exposed_seconds, facts.wait_seconds, facts.optimizer_seconds}) EXPECT_GE(seconds, 0);
    EXPECT_LE(facts.exposed_seconds + facts.wait_seconds + facts.optimizer_seconds, wall);
  }
}

TEST_P(EveryPath, TheLargestStopReasonAndAnyWishToSaveAreEverybodys) {
  start(GetParam());
  const auto ask = [&](int rank, StopReason stop, bool save) {
    return step([=, this](StepReport& report, at::Tensor&) {
      if (world_.rank() != rank) return;
      report.stop = stop;
      report.save = save;
    });
  };
  for (int rank = 0; rank < world_.size(); ++rank) {
    const StepFacts facts = ask(rank, rank % 2 == 0 ? StopReason::signal : StopReason::limit, true);
    EXPECT_EQ(facts.stop, rank % 2 == 0 ? StopReason::signal : StopReason::limit);
    EXPECT_TRUE(facts.save);
  }
  StepFacts facts = step([](StepReport& report, at::Tensor&) { report.stop = StopReason::limit; });
  EXPECT_EQ(facts.stop, StopReason::limit);
  facts = step();
  EXPECT_EQ(facts.stop, StopReason::none);
  EXPECT_FALSE(facts.save);
}

TEST_P(EveryPath, ALossOrGradientThatIsNotFiniteTouchesNothing) {
  for (const double clip_norm : {0.0, 1.0}) {
    SCOPED_TRACE(clip_norm);
    start(GetParam(), {.clip_norm = clip_norm});
    step();
    const at::Tensor before = values(), momentum = optimizer_->slots().front().buffers.front().clone();
    StepFacts facts = step([&](StepReport&, at::Tensor& sum) {
      if (last()) sum = sum * std::numeric_limits<double>::quiet_NaN();
    });
    EXPECT_FALSE(facts.finite);
    EXPECT_EQ(facts.nonfinite_rank, world_.size() - 1);
    facts = step([&](StepReport&, at::Tensor& sum) {   // a finite loss whose gradient is not: d sqrt(x) / dx at 0
      if (last()) sum = sum + (sum - sum).sqrt();
    });
    EXPECT_FALSE(facts.finite);
    EXPECT_EQ(facts.nonfinite_rank, -1);
    EXPECT_TRUE(torch::equal(values(), before));
    EXPECT_TRUE(torch::equal(optimizer_->slots().front().buffers.front(), momentum));
    EXPECT_TRUE(step().finite);
    EXPECT_FALSE(torch::equal(values(), before));
  }
}

/// Sums are made in the order of the ranks, whoever makes them and whenever.
TEST_F(SyncStrategyTest, InSharedMemoryEveryRunAndEveryRankHasTheSameBits) {
  const at::Tensor begin = values();
  std::vector<at::Tensor> ends;
  for (const Path path : {Path::write_back, Path::common, Path::write_back, Path::common}) {
    start(path);
    set_values(begin);
    for (int i = 0; i < 9; ++i) step();
    ends.push_back(values());
    EXPECT_TRUE(torch::equal(ends.front(), ends.back())) << name_of(path);
    EXPECT_TRUE(same_on_all_ranks({static_cast<const char*>(ends.back().data_ptr()), ends.back().nbytes()}));
  }
  EXPECT_FALSE(torch::equal(begin, ends.front()));
}

/// On every path that has messages of the ring. Rounding has 8 bits, and what it takes comes back.
TEST_P(EveryPath, BFloat16OnTheWireStaysCloseAndTheSameOnAllRanks) {
  const at::Tensor begin = values();
  const auto residuals = [&] {
    std::vector<float> all;
    for (const Residual& residual : strategy_->residuals()) all.insert(all.end(), residual.values.begin(), residual.values.end());
    return all;
  };
  const auto train = [&](bool rounded) {
    SyncOptions options;
    options.exchange.bfloat16 = rounded;
    start(GetParam(), options, 36);
    set_values(begin);
    for (int i = 0; i < 36; ++i) {
      // A step that explodes is skipped, and so is what rounding left of it: one gradient is infinite, the others are only huge.
      const bool explode = i >= 12 && i < 15;
      const auto before = residuals();
      const StepFacts facts = step([&](StepReport&, at::Tensor& sum) {
        if (explode && sum.defined()) {
          sum = sum * 1e30 + model_->parameters()[0].view(-1)[0] * std::numeric_limits<double>::infinity();
        }
      });
      EXPECT_EQ(facts.finite, !explode);
      if (explode) {
        EXPECT_EQ(residuals(), before) << "what earlier steps left is still to come";
      }
    }
    EXPECT_TRUE(same_on_all_ranks({static_cast<const char*>(values().data_ptr()), values().nbytes()}));
    return values();
  };
  const at::Tensor exact = train(false), rounded = train(true);
  const double moved = (exact - begin).abs().max().item<double>(), apart = (exact - rounded).abs().max().item<double>();
  EXPECT_LT(apart, 0.01 * moved);
  const bool goes_by_ring = world_.num_hosts() > 1 || GetParam() == Path::message || GetParam() == Path::ring;
  EXPECT_EQ(apart > 0, goes_by_ring && !alone());
}

TEST_P(EveryPath, HandsOutEachStepOnceFromWhereItWasToldTo) {
  start(GetParam(), {.first_step = 9});
  for (std::int64_t step = 9; step < 12; ++step) {
    const auto piece = strategy_->next_piece();
    ASSERT_TRUE(piece.has_value());
    EXPECT_EQ(piece->step, step);
    EXPECT_EQ(strategy_->upcoming(*piece).has_value(), step < 11);
  }
  EXPECT_FALSE(strategy_->next_piece().has_value());
}

}  // namespace
}  // namespace tugline
