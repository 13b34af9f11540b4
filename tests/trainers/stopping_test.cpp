// SPDX-License-Identifier: Apache-2.0
// When a run ends, what it leaves, and what it does about numbers that are none.
#include <limits>

#include "tugline/core/tasks/task.hpp"
#include "tugline/tests/support/task_wrapper.hpp"
#include "tugline/tests/trainers/trainer_lab.hpp"

namespace tugline {
namespace {

using Steps = std::vector<std::int64_t>;

/// What the tests decide about a run: the loss of each evaluation of a split (from a list), how long a step takes, and whose
/// loss is not a number.
struct Script {
  std::vector<double> losses;          ///< one per evaluation; the last one again after that
  std::size_t evaluations = 0;
  ManualClock clock;
  double seconds_per_step = 0;
  std::int64_t calls = 0;              ///< of loss() on this rank
  std::int64_t nan_from = -1, nan_to = -1;   ///< loss() calls, from 0, that give NaN
};

/// Classification without accuracy, as the script says. Splits fit into one block, so rank 0 alone is asked.
class ScriptedTask final : public TaskWrapper {
 public:
  ScriptedTask(Script& script, const SampleSpec& spec) : TaskWrapper(make_task({}, spec)), script_(script) {}
  at::Tensor loss(const at::Tensor& output, const at::Tensor& target) const override {
    script_.clock.advance(script_.seconds_per_step);
    const at::Tensor sum = TaskWrapper::loss(output, target);
    const std::int64_t call = script_.calls++;
    return call >= script_.nan_from && call < script_.nan_to ? sum * std::numeric_limits<double>::quiet_NaN() : sum;
  }
  EvalSums evaluate(const at::Tensor& output, const at::Tensor& target) const override {
    if (script_.losses.empty()) return TaskWrapper::evaluate(output, target);
    const double loss = script_.losses[std::min(script_.evaluations++, script_.losses.size() - 1)];
    const auto samples = static_cast<double>(target.numel());
    return {loss * samples, samples, 0, 0};
  }
  bool has_accuracy() const override { return false; }

 private:
  Script& script_;
};

class StoppingTest : public TrainerLab {
 protected:
  StoppingTest() {
    config_.train.eval_batch = 256;
    config_.train.epochs = 6;
    config_.checkpoint.every_epochs = 0;
    data_.test = first_of(data_.test, 0);
    task_ = [this] { return std::make_unique<ScriptedTask>(script_, data_.train->spec()); };
    clock_ = &script_.clock;
  }
  void evaluate_every_step(std::vector<double> losses) {
    config_.train.eval_unit = "step";
    script_.losses = std::move(losses);
    script_.evaluations = 0;
  }
  std::int64_t best_step(const std::string& folder) const {
    const auto best = checkpoints(folder).best();
    for (const auto& entry : checkpoints(folder).list()) {
      if (entry.file == best) return entry.step;
    }
    return -1;
  }
  static Steps evaluated_steps(const Outcome& outcome) {
    Steps steps;
    for (const auto& record : outcome.evaluations) steps.push_back(record.step);
    return steps;
  }
  static constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  Script script_;
};

TEST_F(StoppingTest, EarlyStoppingWaitsForItsPatience) {
  config_.train.early_stop = {"validation.loss", 3, 0};
  evaluate_every_step({5, 4, 4.5, 3, 3, 3.5, 3.1, 1});
  const Outcome outcome = train({});
  EXPECT_EQ(outcome.result.ending, Ending::early_stop);
  EXPECT_EQ(outcome.result.steps, 7);
  EXPECT_DOUBLE_EQ(outcome.result.validation.loss, 3.1);
  if (world_.rank() == 0) {
    EXPECT_EQ(best_step("run"), 4);
  }
}

TEST_F(StoppingTest, ASmallGainIsNoReasonToGoOnButStillTheBest) {
  config_.train.early_stop = {"validation.loss", 2, 0.5};
  evaluate_every_step({5, 4.8, 4.6, 1});
  const Outcome outcome = train({});
  EXPECT_EQ(outcome.result.steps, 3);
  if (world_.rank() == 0) {
    EXPECT_EQ(best_step("run"), 3);
  }

  evaluate_every_step({5, 4.8, 4.4, 4.2, 4.0, 9});   // small gains add up: 0.6 below the last that counted
  EXPECT_EQ(train({.folder = "slow"}).result.steps, 5);
}

TEST_F(StoppingTest, EarlyStoppingRemembersAcrossAttempts) {
  config_.train.early_stop = {"validation.loss", 3, 0};
  evaluate_every_step({5, 4, 4.5, 4.5, 4.5, 1});
  EXPECT_EQ(train({.signal_at = 4}).result.steps, 4);
  const Outcome rest = train({.resume = true});
  EXPECT_EQ(rest.result.ending, Ending::early_stop);
  EXPECT_EQ(rest.result.steps, 5);
}

TEST_F(StoppingTest, ASignalInTheStepThatStopsEarlyDoesNotMakeTheNextAttemptTrainOn) {
  config_.train.early_stop = {"validation.loss", 3, 0};
  evaluate_every_step({5, 6, 6, 6, 1});
  EXPECT_EQ(train({.signal_at = 4}).result.ending, Ending::signal);
  const Outcome rest = train({.resume = true});
  EXPECT_EQ(rest.result.ending, Ending::early_stop);
  EXPECT_EQ(rest.result.steps, 4);
  EXPECT_TRUE(rest.steps.empty());
}

TEST_F(StoppingTest, AnEvaluationThatIsNotANumberIsNoGain) {
  config_.train.early_stop = {"validation.loss", 2, 0};
  evaluate_every_step({kNaN, 5, kNaN, kNaN, 1});
  const Outcome outcome = train({});
  EXPECT_EQ(outcome.result.steps, 4);
  if (world_.rank() == 0) {
    EXPECT_EQ(best_step("run"), 2);
  }
}

TEST_F(StoppingTest, MetricsThatAreNotKnownDuringTrainingAreConfigErrors) {
  const auto refuse = [&](const std::string& what) {
    try {
      train({});
      ADD_FAILURE() << what << " was accepted";
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::config);
      EXPECT_THAT(error.what(), testing::HasSubstr(what));
    }
  };
  config_.train.early_stop.metric = "validation.accuracy";   // this task has none
  refuse("'validation.accuracy' is not known during training; use validation.loss");
  config_.train.early_stop.metric = "train.loss";
  refuse("train.early_stop.metric");
  config_.train.early_stop.metric = "";
  config_.checkpoint.best_metric = "test.loss";
  refuse("checkpoint.best_metric");
  config_.checkpoint.best_metric = "auto";
  config_.train.early_stop.metric = "validation.loss";
  data_.validation = first_of(data_.train, 0);
  refuse("validation split");
}

TEST_F(StoppingTest, TheTimeLimitCountsEveryAttempt) {
  config_.train.max_minutes = 2;
  if (world_.rank() == 0) script_.seconds_per_step = 30;   // the clock of rank 0 decides
  const Outcome whole = train({.folder = "whole"});
  EXPECT_EQ(whole.result.ending, Ending::time_limit);
  EXPECT_EQ(whole.result.steps, 4);
  EXPECT_EQ(whole.result.validation.samples, 11) << "evaluated at the end";
  if (world_.rank() == 0) {
    EXPECT_EQ(saved_steps("whole"), Steps{4});
  }

  EXPECT_EQ(train({.signal_at = 2}).result.steps, 2);
  const Outcome rest = train({.resume = true});
  EXPECT_EQ(rest.result.ending, Ending::time_limit);
  EXPECT_EQ(rest.result.steps, 4);
  if (world_.rank() == 0) {
    EXPECT_EQ(rest.result.seconds, 120);
  }
}

TEST_F(StoppingTest, EvaluatesEverySoManyStepsOrEpochsAndAtTheEnd) {
  config_.train.steps = 13;
  config_.train.eval_unit = "step";
  config_.train.eval_every = 4;
  EXPECT_EQ(evaluated_steps(train({.folder = "steps"})), (Steps{4, 8, 12, 13}));
  config_.train.eval_unit = "epoch";
  config_.train.eval_every = 2;
  EXPECT_EQ(evaluated_steps(train({.folder = "epochs"})), (Steps{10, 13}));
  config_.train.eval_every = 0.4;
  EXPECT_EQ(evaluated_steps(train({.folder = "parts"})), (Steps{2, 4, 6, 8, 10, 12, 13}));
}

TEST_F(StoppingTest, WhoAsksToStopDoesNotWaitForAnEvaluationAndItIsMadeUpFor) {
  config_.train.steps = 13;
  config_.train.eval_unit = "step";
  config_.train.eval_every = 4;
  EXPECT_EQ(evaluated_steps(train({.signal_at = 8})), Steps{4});
  EXPECT_EQ(evaluated_steps(train({.resume = true})), (Steps{8, 12, 13}));
}

TEST_F(StoppingTest, SavesEverySoManyStepsEpochsAndMinutesAndAtTheEnd) {
  config_.train.steps = 13;
  config_.checkpoint.keep_last = 100;
  config_.checkpoint.keep_best = false;
  config_.checkpoint.every_steps = 4;
  const Outcome steps = train({.folder = "steps"});
  EXPECT_EQ(steps.steps_of("checkpoint"), world_.rank() == 0 ? (Steps{4, 8, 12, 13}) : Steps{});

  config_.checkpoint.every_steps = 0;
  config_.checkpoint.every_epochs = 2;
  EXPECT_EQ(train({.folder = "epochs"}).steps_of("checkpoint"), world_.rank() == 0 ? (Steps{10, 13}) : Steps{});

  config_.checkpoint.every_epochs = 0;
  config_.checkpoint.every_minutes = 1;
  config_.data.drop_last = true;   // rank 0 has samples, and so takes its time, in every step
  if (world_.rank() == 0) script_.seconds_per_step = 25;
  EXPECT_EQ(train({.folder = "minutes"}).steps_of("checkpoint"), world_.rank() == 0 ? (Steps{3, 6, 9, 12, 13}) : Steps{});
}

TEST_F(StoppingTest, KeepsTheLastAndTheBest) {
  config_.train.steps = 9;
  config_.checkpoint.every_steps = 1;
  config_.checkpoint.keep_last = 2;
  evaluate_every_step({5, 4, 3, 3.5, 9});
  train({});
  if (world_.rank() == 0) {
    EXPECT_EQ(saved_steps("run"), (Steps{3, 8, 9}));
    EXPECT_EQ(best_step("run"), 3);
  }
  config_.checkpoint.keep_best = false;
  evaluate_every_step({5, 4, 3, 3.5, 9});
  train({.folder = "last"});
  if (world_.rank() == 0) {
    EXPECT_EQ(saved_steps("last"), (Steps{8, 9}));
  }
  config_.checkpoint.keep_best = true;
  config_.checkpoint.keep_last = 1;
  evaluate_every_step({5, 4, 3, 2, 9});   // the best so far goes as soon as there is a better one
  config_.train.steps = 4;
  train({.folder = "better"});
  if (world_.rank() == 0) {
    EXPECT_EQ(saved_steps("better"), Steps{4});
  }
}

TEST_F(StoppingTest, ARunThatEndsLeavesItsLastStepEvenWhenNothingIsSavedOnTheWay) {
  config_.checkpoint.keep_best = false;
  config_.train.steps = 3;
  train({.folder = "done"});
  train({.folder = "signal", .signal_at = 2});
  if (world_.rank() == 0) {
    EXPECT_EQ(saved_steps("done"), Steps{3});
    EXPECT_EQ(saved_steps("signal"), Steps{2});
  }
}

TEST_F(StoppingTest, ASignalOnOneRankStopsAllAtOneStep) {
  config_.train.eval_every = 100;
  for (int rank = 0; rank < world_.size(); ++rank) {
    const Outcome outcome = train({.folder = std::to_string(rank), .signal_at = 3 + rank, .signal_rank = rank});
    EXPECT_EQ(outcome.result.ending, Ending::signal);
    EXPECT_EQ(outcome.result.steps, 3 + rank);
    EXPECT_TRUE(outcome.evaluations.empty()) << "who asked to stop does not wait for evaluations";
  }
}

/// The last rank's loss is NaN in steps [from, to), counted from 0.
class NonFiniteTest : public StoppingTest {
 protected:
  NonFiniteTest() {
    config_.train.steps = 14;
    config_.train.nonfinite = "skip";
  }
  void plant(std::int64_t from, std::int64_t to) {
    if (world_.rank() != world_.size() - 1) return;
    script_.nan_from = from;
    script_.nan_to = to;
  }
  std::string name_of_rank() const { return "the loss on rank " + std::to_string(world_.size() - 1); }
};

TEST_F(NonFiniteTest, AStepWithALossThatIsNotANumberChangesNothingOnAnyRank) {
  plant(3, 5);
  std::vector<std::string> bits;
  const Outcome outcome = train({.after_step = [&](std::int64_t, Learner& learner) { bits.push_back(bits_of(learner)); }});
  ASSERT_EQ(bits.size(), 14u);
  for (std::size_t step = 1; step < bits.size(); ++step) EXPECT_EQ(bits[step] == bits[step - 1], step == 3 || step == 4) << step;
  EXPECT_TRUE(same_on_all_ranks(outcome.bits));
  EXPECT_EQ(outcome.result.steps, 14);
  EXPECT_TRUE(std::isfinite(outcome.result.train.loss));
  EXPECT_THAT(outcome.warnings(), testing::ElementsAre(testing::HasSubstr("step 4: " + name_of_rank()),
                                                       testing::HasSubstr("step 5: " + name_of_rank())));
}

TEST_F(NonFiniteTest, NineInARowAreSkippedAndTenEndTheRun) {
  plant(2, 11);
  EXPECT_EQ(train({.folder = "nine"}).result.steps, 14);

  script_.calls = 0;
  plant(2, 12);
  std::string text, last, second;
  try {
    train({.folder = "ten", .after_step = [&](std::int64_t step, Learner& learner) {
      last = bits_of(learner);
      if (step == 2) second = last;
    }});
  } catch (const AgreedError& error) {
    text = error.what();
  }
  EXPECT_THAT(text, testing::HasSubstr(name_of_rank() + " was not finite for 10 steps in a row, the last is step 12"));
  EXPECT_TRUE(same_on_all_ranks(text));
  EXPECT_TRUE(last == second) << "parameters are those of the last good step";
  EXPECT_EQ(checkpoints("ten").list().back().step, 12) << "a run that ends leaves a checkpoint of its last step";
}

TEST_F(NonFiniteTest, EndsTheRunByDefaultAndNamesRankSamplesAndParameter) {
  config_.train.nonfinite = "stop";
  plant(3, 5);   // and once more when the step is computed again to see why
  std::string text;
  try {
    train({});
  } catch (const AgreedError& error) {
    text = error.what();
  }
  EXPECT_THAT(text, testing::AllOf(testing::HasSubstr("step 4: " + name_of_rank()),
                                   testing::HasSubstr("rank " + std::to_string(world_.size() - 1) + " has a loss of nan"),
                                   testing::HasSubstr("first in '"), testing::HasSubstr("its samples: ")));
  EXPECT_TRUE(same_on_all_ranks(text));
  EXPECT_EQ(checkpoints("run").list().back().step, 3) << "of the step before, so that this one can be seen again";
}

/// Looking for the cause sends the step's samples through the model once more; what is saved has not seen that.
TEST_F(NonFiniteTest, TheCheckpointIsThatOfARunWithoutTheFault) {
  config_.model.name = "convnet";
  config_.model.norm = "batch";
  config_.checkpoint.every_steps = 3;
  config_.checkpoint.keep_last = 10;
  train({.folder = "clean"});
  config_.train.nonfinite = "stop";
  config_.checkpoint.every_steps = 0;
  script_.calls = 0;
  plant(3, 5);
  EXPECT_THROW(train({.folder = "fault"}), AgreedError);
  const Checkpoint clean = read_checkpoint(checkpoints("clean").path_of(3)), fault = read_checkpoint(checkpoints("fault").path_of(3));
  for (const auto& [path, array] : clean.arrays) EXPECT_TRUE(array.data == fault.arrays.at(path).data) << path;
}

TEST_F(NonFiniteTest, SaysSoWhenItCannotBeSeenAgain) {
  config_.train.nonfinite = "stop";
  plant(3, 4);
  std::string text;
  try {
    train({});
  } catch (const AgreedError& error) {
    text = error.what();
  }
  EXPECT_THAT(text, testing::HasSubstr("computed again it was finite"));
}

TEST_F(NonFiniteTest, RetryGoesOnWithoutATraceWhenTheFaultPasses) {
  config_.model.dropout = 0.2;
  const Outcome clean = train({.folder = "clean"});
  config_.train.nonfinite = "retry";
  script_.calls = 0;
  plant(3, 4);
  const Outcome outcome = train({});
  EXPECT_TRUE(outcome.bits == clean.bits);
  EXPECT_THAT(outcome.warnings(), testing::ElementsAre(testing::HasSubstr("step 4: not finite at first")));
  script_.calls = 0;
  plant(3, 5);
  EXPECT_THROW(train({.folder = "stays"}), AgreedError);
}

/// A gradient that is not finite although the loss is, on one rank alone, and everywhere before the optimizer.
TEST_F(NonFiniteTest, AnInjectedGradientIsCaughtOnAllRanks) {
  const Outcome clean = train({.folder = "clean"});
  config_.train.nonfinite = "retry";
  const Outcome outcome = train({.faults = {parse_fault("nan:step=5,rank=" + std::to_string(world_.size() - 1))}});
  EXPECT_TRUE(outcome.bits == clean.bits);
  EXPECT_EQ(outcome.warnings().size(), world_.rank() == 0 ? 1U : outcome.warnings().size());
}

TEST_F(StoppingTest, ACheckpointThatCannotBeWrittenEndsTheRunOrCostsAWarning) {
  config_.checkpoint.every_steps = 5;
  config_.train.steps = 14;
  config_.train.eval_every = 100;
  config_.checkpoint.on_error = "continue";
  const Outcome outcome = train({.folder = "on", .faults = {parse_fault("io:step=5")}});
  EXPECT_EQ(outcome.result.ending, Ending::done);
  EXPECT_EQ(saved_steps("on"), (Steps{10, 14}));
  if (world_.rank() == 0) {
    EXPECT_THAT(outcome.warnings(), testing::ElementsAre(testing::HasSubstr("step-00000005.h5: input/output error")));
  }
  config_.checkpoint.on_error = "stop";
  try {
    train({.folder = "off", .faults = {parse_fault("io:step=6")}});
    ADD_FAILURE() << "the second one failed";
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::io);
    EXPECT_THAT(error.what(), testing::HasSubstr("step-00000010.h5"));
  }
  EXPECT_EQ(saved_steps("off"), (Steps{5}));
}

TEST_F(NonFiniteTest, ABadSampleDoesNotPoisonRunningStatistics) {
  config_.model.name = "convnet";
  config_.model.norm = "batch";
  class OneBad final : public Dataset {
   public:
    explicit OneBad(std::shared_ptr<const Dataset> base) : base_(std::move(base)) {}
    const SampleSpec& spec() const override { return base_->spec(); }
    std::int64_t size() const override { return base_->size(); }
    std::uint64_t fingerprint() const override { return 0; }
    void read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const override {
      base_->read(index, input, target);
      const float nan = std::numeric_limits<float>::quiet_NaN();
      if (index == 7) std::memcpy(input.data(), &nan, sizeof nan);
    }

   private:
    std::shared_ptr<const Dataset> base_;
  };
  data_.train = std::make_shared<OneBad>(data_.train);
  config_.train.steps = 2 * kStepsPerEpoch;
  const Outcome outcome = train({});
  EXPECT_EQ(outcome.warnings().size(), 2u) << "once an epoch";
  EXPECT_TRUE(std::isfinite(outcome.result.validation.loss));
  EXPECT_TRUE(same_on_all_ranks(outcome.bits));
}

}  // namespace
}  // namespace tugline
