// SPDX-License-Identifier: Apache-2.0
// Training in local rounds: everything that needs one state for all ranks happens when a round is over.
#include "tugline/tests/trainers/trainer_lab.hpp"

namespace tugline {
namespace {

class LocalTest : public TrainerLab {
 protected:
  LocalTest() {
    config_.parallel.strategy = "local";
    config_.parallel.local.steps = 4;   // rounds end after 4, 8, 12 and 15 of 15 steps
    config_.optim.momentum = 0.9;
    config_.parallel.check_every = 1;
    config_.checkpoint.keep_last = 100;
    config_.checkpoint.keep_best = false;
  }
  static std::vector<std::int64_t> evaluated(const Outcome& outcome) {
    std::vector<std::int64_t> steps;
    for (const auto& record : outcome.evaluations) {
      if (record.split == "validation") steps.push_back(record.step);
    }
    return steps;
  }
};

TEST_F(LocalTest, EvaluatesSavesAndComparesWhenARoundIsOver) {
  config_.train.eval_unit = "step";
  config_.train.eval_every = 3;   // due after 3, 6, 9, 12, 15
  config_.checkpoint.every_epochs = 0;
  config_.checkpoint.every_steps = 5;
  const Outcome outcome = train({});
  EXPECT_EQ(evaluated(outcome), (std::vector<std::int64_t>{4, 8, 12, 15}));
  if (world_.rank() == 0) {
    EXPECT_EQ(saved_steps("run"), (std::vector<std::int64_t>{8, 12, 15}));
  }
  EXPECT_EQ(outcome.steps.size(), 15u);
}

TEST_F(LocalTest, StopAndResumeEqualsNeverStopping) {
  for (const double momentum : {0.0, 0.9}) {
    for (const std::string state : {"average", "reset"}) {
      config_.parallel.local.outer_momentum = momentum;
      config_.parallel.local.outer_lr = momentum > 0 ? 0.7 : 1;
      config_.parallel.local.state = state;
      const std::string name = fmt::format("{}-{}-", state, momentum);
      const Outcome whole = train({.folder = name + "whole"});
      const Outcome first = train({.folder = name + "parts", .signal_at = 6});
      EXPECT_EQ(first.result.ending, Ending::signal);
      EXPECT_EQ(first.result.steps, 8) << "the round that the signal came in";
      const Outcome rest = train({.folder = name + "parts", .resume = true});
      EXPECT_TRUE(rest.resumed);
      EXPECT_TRUE(rest.bits == whole.bits) << name;
      EXPECT_EQ(rest.result.validation.loss, whole.result.validation.loss);
      auto evaluations = evaluated(first);   // one was due after 5 steps, and is made up for
      for (const std::int64_t step : evaluated(rest)) evaluations.push_back(step);
      EXPECT_EQ(evaluations, evaluated(whole));
    }
  }
}

/// What the last step's fault does to a run that repeats the step, or leaves it out.
TEST_F(LocalTest, ALastStepThatIsNotFinite) {
  config_.parallel.local.outer_momentum = 0.9;
  const Outcome well = train({.folder = "well"});
  const std::vector<Fault> faults{{.kind = Fault::Kind::nan, .rank = world_.size() - 1, .step = 15, .text = "nan"}};
  config_.train.nonfinite = "retry";
  config_.data.batch = 5;
  const Outcome retried = train({.folder = "retried", .faults = faults});
  EXPECT_TRUE(retried.bits == well.bits);
  std::filesystem::remove(folder_ / "faults.log");
  world_.control().barrier();
  config_.train.nonfinite = "skip";
  const Outcome skipped = train({.folder = "skipped", .faults = faults});
  EXPECT_EQ(skipped.result.steps, 15);
  EXPECT_FALSE(skipped.bits == well.bits);
  EXPECT_EQ(evaluated(skipped).back(), 15);
}

TEST_F(LocalTest, AChangeThatSomethingElseMadeIsFoundWhenTheRoundIsOver) {
  if (world_.size() == 1) return;
  const std::vector<Fault> faults{{.kind = Fault::Kind::flip, .rank = 1, .step = 8, .text = "flip"}};
  try {
    train({.faults = faults});
    ADD_FAILURE() << "not found";
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::disagree);
    EXPECT_THAT(error.what(), testing::HasSubstr("after step 8"));
  }
}

TEST_F(LocalTest, RunningStatisticsAreThoseOfTheWholeRound) {
  config_.model.name = "convnet";
  config_.model.norm = "batch";
  config_.data.batch = 11;   // 11, 11 and one sample: the last round ends with it
  config_.parallel.local.steps = 3;
  config_.train.epochs = 2;
  const Outcome outcome = train({});
  EXPECT_TRUE(std::isfinite(outcome.result.validation.loss));
  for (const std::string& bits : world_.control().all_gather(outcome.bits)) EXPECT_TRUE(bits == outcome.bits);
}

TEST_F(LocalTest, RoundsOfOneStepEndWithTheParametersOfSynchronousTraining) {
  config_.parallel.local.steps = 1;
  config_.data.batch = 8;   // every rank has samples in every step
  const Outcome local = train({.folder = "local"});
  config_.parallel.strategy = "sync";
  const Outcome sync = train({.folder = "sync"});
  EXPECT_NEAR(local.result.validation.loss, sync.result.validation.loss, 1e-5);
  EXPECT_NEAR(local.result.train.loss, sync.result.train.loss, 1e-5);
}

}  // namespace
}  // namespace tugline
