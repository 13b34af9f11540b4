// SPDX-License-Identifier: Apache-2.0
// The gate must fail on each planted defect with the right reason, and pass without it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>

#include <torch/torch.h>

#include "tugline/core/state/arena.hpp"
#include "tugline/core/tasks/task.hpp"
#include "tugline/parallel/forwarding_communicator.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"
#include "tugline/tests/support/task_wrapper.hpp"
#include "tugline/tests/trainers/overfit/gate_lab.hpp"
#include "tugline/tests/trainers/overfit/planted_models.hpp"
#include "tugline/trainers/learner.hpp"

namespace tugline {
namespace {

using testing::HasSubstr;

class PlantedDefects : public testing::TestWithParam<int> {
 protected:
  PlantedDefects() { lab_.ranks = GetParam(); }
  void use_model(const PlantedModel& plant) {
    add_planted(lab_.models, plant);
    lab_.config.model.name = "planted";
  }
  OverfitVerdict expect_failure(const std::string& reason) {
    const OverfitVerdict verdict = lab_.run();
    EXPECT_FALSE(verdict.passed);
    EXPECT_EQ(verdict.reason, reason) << verdict.explanation;
    return verdict;
  }
  GateLab lab_;
};

INSTANTIATE_TEST_SUITE_P(Ranks, PlantedDefects, testing::Values(1, 2, 3), testing::PrintToStringParamName());

TEST_P(PlantedDefects, NoneAndTheGatePasses) {
  const OverfitVerdict verdict = lab_.run();
  EXPECT_TRUE(verdict.passed) << to_text(verdict);
  EXPECT_EQ(verdict.reason, "learned");
  EXPECT_EQ(verdict.accuracy, 1.0);
  EXPECT_LE(verdict.loss, 0.05);
  EXPECT_LT(verdict.steps, 200);
}

TEST_P(PlantedDefects, NoneInThePlantedModelEither) {
  use_model({});
  const OverfitVerdict verdict = lab_.run();
  EXPECT_TRUE(verdict.passed) << to_text(verdict);
}

TEST_P(PlantedDefects, DetachedLayer) {
  use_model({.input = {}, .middle = [](const at::Tensor& x) { return x.detach(); }, .output = {}});
  const OverfitVerdict verdict = expect_failure("no_gradient");
  EXPECT_THAT(verdict.explanation, HasSubstr("layer first"));
  EXPECT_THAT(verdict.explanation, HasSubstr("between it and second"));
}

TEST_P(PlantedDefects, DetachedOutput) {
  use_model({.input = {}, .middle = {}, .output = [](const at::Tensor& x) { return x.detach(); }});
  EXPECT_THAT(expect_failure("no_gradient").explanation, HasSubstr("layer second"));
}

TEST_P(PlantedDefects, LearningRateZero) {
  lab_.config.optim.lr = 0;
  EXPECT_THAT(expect_failure("lr_too_small").explanation, HasSubstr("Try optim.lr="));
}

TEST_P(PlantedDefects, LearningRateTooSmall) {
  lab_.config.optim.lr = 1e-5;
  EXPECT_THAT(expect_failure("lr_too_small").explanation, HasSubstr("1e-05"));
}

TEST_P(PlantedDefects, LearningRateTooLarge) {
  lab_.config.optim.lr = 1e4;
  EXPECT_THAT(expect_failure("lr_too_large").explanation, HasSubstr("too large"));
}

/// Counts reads; every one gets another label.
class RedrawnLabels final : public Dataset {
 public:
  explicit RedrawnLabels(std::shared_ptr<const Dataset> base) : base_(std::move(base)) {}
  const SampleSpec& spec() const override { return base_->spec(); }
  std::int64_t size() const override { return base_->size(); }
  std::uint64_t fingerprint() const override { return base_->fingerprint(); }
  void read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const override {
    base_->read(index, input, target);
    const std::int64_t label = reads_++ % kClasses;
    std::memcpy(target.data(), &label, sizeof label);
  }

 private:
  std::shared_ptr<const Dataset> base_;
  mutable std::atomic<std::int64_t> reads_ = 0;
};

TEST_P(PlantedDefects, LabelsRedrawnAtEachRead) {
  if (GetParam() > 1) GTEST_SKIP() << "ranks that are threads would choose samples by each other's labels";
  lab_.train = std::make_shared<RedrawnLabels>(lab_.train);
  expect_failure("labels_change");
}

/// The shipped task with something changed.
class PlantedTask final : public TaskWrapper {
 public:
  using Change = std::function<at::Tensor(const at::Tensor&)>;
  PlantedTask(const SampleSpec& spec, Change loss, Change target)
      : TaskWrapper(make_task(TaskConfig{}, spec)), loss_(std::move(loss)), target_(std::move(target)) {}
  at::Tensor loss(const at::Tensor& output, const at::Tensor& target) const override {
    const at::Tensor sum = TaskWrapper::loss(output, target_ ? target_(target) : target);
    return loss_ ? loss_(sum) : sum;
  }

 private:
  Change loss_, target_;
};

TEST_P(PlantedDefects, LabelsRedrawnByTheTask) {
  auto draws = std::make_shared<std::atomic<std::int64_t>>(0);
  lab_.parts.task = [this, draws] {
    return std::make_unique<PlantedTask>(lab_.train->spec(), PlantedTask::Change{},
                                         [draws](const at::Tensor& target) { return (target + ++*draws) % kClasses; });
  };
  expect_failure("labels_change");
}

TEST_P(PlantedDefects, WrongLossSign) {
  lab_.parts.task = [this] {
    return std::make_unique<PlantedTask>(lab_.train->spec(), [](const at::Tensor& loss) { return -loss; }, PlantedTask::Change{});
  };
  EXPECT_THAT(expect_failure("wrong_sign").explanation, HasSubstr("opposite sign"));
}

/// Sync training with something done around each step.
class PlantedStrategy final : public Strategy {
 public:
  using Around = std::function<void(Arena&)>;
  PlantedStrategy(const OverfitParts::StrategyNeeds& needs, Around before_step, Around after_step)
      : arena_(needs.learner.parameters()),
        sync_(needs.world.communicator(), needs.world.control(), arena_, needs.learner.optimizer(), needs.schedule, needs.plan,
              needs.options),
        before_step_(std::move(before_step)), after_step_(std::move(after_step)) {}
  std::optional<Piece> next_piece() override { return sync_.next_piece(); }
  std::optional<Piece> upcoming(const Piece& piece) const override { return sync_.upcoming(piece); }
  void begin_step(int backwards, double nominal_weight) override {
    if (before_step_) before_step_(arena_);
    sync_.begin_step(backwards, nominal_weight);
  }
  StepFacts finish_step(const StepReport& report) override {
    const StepFacts facts = sync_.finish_step(report);
    if (after_step_) after_step_(arena_);
    return facts;
  }

 private:
  Arena& arena_;
  SyncStrategy sync_;
  Around before_step_, after_step_;
};

/// Gradients that are never zeroed move the parameters by all steps' gradients so far. Here that of the earlier ones comes second.
TEST_P(PlantedDefects, MissingZeroGrad) {
  lab_.parts.strategy = [](const OverfitParts::StrategyNeeds& needs) {
    auto earlier = std::make_shared<std::vector<at::Tensor>>();
    Optimizer& optimizer = needs.learner.optimizer();
    const double lr = needs.schedule.lr(0);
    return std::make_unique<PlantedStrategy>(needs, PlantedStrategy::Around{}, [earlier, &optimizer, lr](Arena& arena) {
      std::vector<at::Tensor> now;
      for (const auto& flat : arena.flats()) now.push_back(flat.gradients.clone());
      for (std::size_t i = 0; i < earlier->size(); ++i) at::Tensor(arena.flats()[i].gradients).copy_((*earlier)[i]);
      if (!earlier->empty()) {
        for (const auto& segment : arena.segments()) optimizer.step(segment.range, segment.group, {.lr = lr, .number = 2});
        for (std::size_t i = 0; i < now.size(); ++i) now[i] += (*earlier)[i];
      }
      *earlier = now;
    });
  };
  EXPECT_THAT(expect_failure("gradients_accumulate").explanation, HasSubstr("not set to zero"));
}

TEST_P(PlantedDefects, GradientScaledByTheNumberOfRanks) {
  lab_.parts.strategy = [](const OverfitParts::StrategyNeeds& needs) {
    auto before = std::make_shared<std::vector<at::Tensor>>();
    return std::make_unique<PlantedStrategy>(
        needs,
        [before](Arena& arena) {
          before->clear();
          for (const auto& flat : arena.flats()) before->push_back(flat.values.clone());
        },
        [before](Arena& arena) {   // the same step once more
          const torch::NoGradGuard no_grad;
          for (std::size_t i = 0; i < before->size(); ++i) {
            at::Tensor values = arena.flats()[i].values;
            values.add_(values - (*before)[i]);
          }
        });
  };
  EXPECT_THAT(expect_failure("gradient_scale").explanation, HasSubstr("2 times"));
}

/// Passes everything on; what one rank contributes to sums is lost, or one rank never sees the result.
class LossyCommunicator final : public ForwardingCommunicator {
 public:
  enum class Fault { drops_contribution, misses_result };
  LossyCommunicator(std::unique_ptr<Communicator> inner, int faulty_rank, Fault fault)
      : ForwardingCommunicator(std::move(inner)), faulty_(rank() == faulty_rank), fault_(fault) {}
  std::unique_ptr<Work> start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) override {
    const std::size_t bytes = static_cast<std::size_t>(count) * size_of(dtype);
    if (faulty_ && fault_ == Fault::drops_contribution) std::memset(data, 0, bytes);
    if (!faulty_ || fault_ != Fault::misses_result) return ForwardingCommunicator::start_all_reduce(data, count, dtype, op);
    scratch_.emplace_back(static_cast<std::byte*>(data), static_cast<std::byte*>(data) + bytes);
    return ForwardingCommunicator::start_all_reduce(scratch_.back().data(), count, dtype, op);
  }

 private:
  bool faulty_;
  Fault fault_;
  std::vector<std::vector<std::byte>> scratch_;
};

TEST_P(PlantedDefects, OneRanksGradientDropped) {
  if (GetParam() == 1) GTEST_SKIP() << "one rank has no other to differ from";
  lab_.config.parallel.shared_memory = "off";   // the fault is in the messages
  lab_.wrap = [](std::unique_ptr<Communicator> inner) {
    return std::make_unique<LossyCommunicator>(std::move(inner), 1, LossyCommunicator::Fault::drops_contribution);
  };
  EXPECT_THAT(expect_failure("ranks_disagree").explanation, HasSubstr("gradient of rank 1 is missing"));
}

TEST_P(PlantedDefects, OneRankNeverSeesTheSum) {
  if (GetParam() == 1) GTEST_SKIP() << "one rank has no other to differ from";
  lab_.config.parallel.shared_memory = "off";   // the fault is in the messages
  lab_.wrap = [](std::unique_ptr<Communicator> inner) {
    return std::make_unique<LossyCommunicator>(std::move(inner), 1, LossyCommunicator::Fault::misses_result);
  };
  EXPECT_THAT(expect_failure("ranks_disagree").explanation, HasSubstr("rank 1 holds other parameters"));
}

TEST_P(PlantedDefects, DoubleSoftmax) {
  use_model({.input = {}, .middle = {}, .output = [](const at::Tensor& x) { return torch::softmax(x, -1); }});
  const OverfitVerdict verdict = expect_failure("loss_floor");
  EXPECT_THAT(verdict.explanation, HasSubstr("a softmax too many"));
  EXPECT_THAT(verdict.explanation, HasSubstr("0.744"));   // log(1 + 3 / e)
}

TEST_P(PlantedDefects, BoundedOutputs) {
  use_model({.input = {}, .middle = {}, .output = [](const at::Tensor& x) { return torch::tanh(x); }});
  EXPECT_THAT(expect_failure("loss_floor").explanation, HasSubstr("bounded"));
}

TEST_P(PlantedDefects, InputZeroedByTheModel) {
  use_model({.input = [](const at::Tensor& x) { return x * 0; }, .middle = {}, .output = {}});
  expect_failure("output_ignores_input");
}

TEST_P(PlantedDefects, InputZeroedInTheData) {
  auto points = random_points();
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < points->size(); ++i) labels.push_back(i % kClasses);
  lab_.train = std::make_shared<MemoryDataset>(points->spec(), points->size(),
                                               std::vector<float>(static_cast<std::size_t>(points->size() * kFeatures)), std::move(labels));
  EXPECT_THAT(expect_failure("constant_input").explanation, HasSubstr("all zeros"));
}

TEST_P(PlantedDefects, LayerBlockedByZero) {
  use_model({.input = {}, .middle = [](const at::Tensor& x) { return x * 0 + x.detach().clamp_max(0.1); }, .output = {}});
  lab_.config.overfit.loss = 1e-9;   // the second layer alone learns the samples, given time
  EXPECT_THAT(expect_failure("no_gradient").explanation, HasSubstr("exactly zero"));
}

TEST_P(PlantedDefects, NanFromALayer) {
  use_model({.input = {}, .middle = [](const at::Tensor& x) { return torch::log(-1 - x); }, .output = {}});
  const OverfitVerdict verdict = expect_failure("non_finite");
  EXPECT_THAT(verdict.explanation, HasSubstr("NaN first seen in layer first"));
  EXPECT_THAT(verdict.explanation, HasSubstr("operator log"));
}

TEST_P(PlantedDefects, NanInTheGradientOnly) {
  // Adds sqrt(0), which has an infinite slope.
  use_model({.input = {}, .middle = {}, .output = [](const at::Tensor& x) { return x + (x - x.detach()).square().sqrt(); }});
  EXPECT_THAT(expect_failure("non_finite").explanation, HasSubstr("gradient of layer second"));
}

TEST_P(PlantedDefects, TrainingAndEvaluationDiffer) {
  use_model({.input = {}, .middle = {}, .output = [](const at::Tensor& x) { return -x; }, .output_in_training_only = true});
  EXPECT_THAT(expect_failure("train_eval_differ").explanation, HasSubstr("is_training()"));
}

TEST_P(PlantedDefects, OneInputWithTwoLabels) {
  auto points = random_points(10);
  std::vector<float> inputs;
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < 10; ++i) {
    std::vector<float> input(kFeatures);
    std::int64_t label = 0;
    points->read(i == 7 ? 2 : i, std::as_writable_bytes(std::span(input)), std::as_writable_bytes(std::span(&label, 1)));
    inputs.insert(inputs.end(), input.begin(), input.end());
    labels.push_back(i % kClasses);
  }
  lab_.train = std::make_shared<MemoryDataset>(points->spec(), 10, std::move(inputs), std::move(labels));
  EXPECT_THAT(expect_failure("conflicting_labels").explanation, HasSubstr("Samples 2 and 7"));
}

TEST_P(PlantedDefects, BudgetTooSmall) {
  lab_.config.overfit.steps = 10;
  const OverfitVerdict verdict = expect_failure("budget_too_small");
  EXPECT_THAT(verdict.explanation, HasSubstr("Set overfit.steps="));
  EXPECT_EQ(verdict.steps, 10);
}

}  // namespace
}  // namespace tugline
