// SPDX-License-Identifier: Apache-2.0
// Mixed precision: 16 bits in the middle, float32 at both ends, and a scale that finds itself.
#include "tugline/core/tasks/task.hpp"
#include "tugline/tests/support/task_wrapper.hpp"
#include "tugline/tests/trainers/trainer_lab.hpp"
#include "tugline/trainers/loss_scale.hpp"

namespace tugline {
namespace {

class PrecisionTest : public TrainerLab {
 protected:
  Outcome trained_in(const std::string& precision) {
    config_.train.precision = precision;
    return train({.folder = precision});
  }
};

TEST_F(PrecisionTest, SixteenBitsAreUsedAndWhatIsKeptIsFloat32) {
  config_.optim.clip_norm = 1;
  const Outcome full = trained_in("float32");
  for (const char* precision : {"bf16", "fp16"}) {
    const Outcome mixed = trained_in(precision);
    EXPECT_EQ(mixed.bits.size(), full.bits.size()) << precision;   // float32, all of it
    EXPECT_TRUE(same_on_all_ranks(mixed.bits)) << precision;
    EXPECT_NE(mixed.bits, full.bits) << precision << " changed nothing";
    ASSERT_EQ(mixed.steps.size(), full.steps.size());
    for (std::size_t i = 0; i < full.steps.size(); ++i) EXPECT_NEAR(mixed.steps[i].loss, full.steps[i].loss, 0.03 * full.steps[i].loss) << precision << i;
    EXPECT_NEAR(mixed.result.validation.loss, full.result.validation.loss, 0.03 * full.result.validation.loss) << precision;
  }
}

/// The loss times `factor`: gradients of the first scales are too large for 16 bits.
class SteepTask final : public TaskWrapper {
 public:
  explicit SteepTask(double factor) : TaskWrapper(make_task({}, {.input_shape = {1, 28, 28}, .num_classes = 10})), factor_(factor) {}
  at::Tensor loss(const at::Tensor& output, const at::Tensor& target) const override { return TaskWrapper::loss(output, target) * factor_; }

 private:
  double factor_;
};

TEST_F(PrecisionTest, TooLargeAScaleIsHalvedAndNoStepIsLost) {
  task_ = [] { return std::make_unique<SteepTask>(64); };
  config_.optim.lr = 0.05 / 64;
  config_.train.precision = "fp16";
  const Outcome outcome = train({.folder = "steep"});
  EXPECT_EQ(outcome.result.steps, 3 * kStepsPerEpoch);
  EXPECT_TRUE(same_on_all_ranks(outcome.bits));
  EXPECT_THAT(outcome.warnings(), testing::IsEmpty()) << "an overflow is nothing to warn of";
  const auto overflows = outcome.steps_of("loss_scale");
  ASSERT_GE(overflows.size(), 2u);
  EXPECT_EQ(overflows.front(), 1);
  for (const StepRecord& step : outcome.steps) EXPECT_GT(step.loss, 0);
  const auto saved = boost::json::parse(read_checkpoint(checkpoints("steep").path_of(15)).texts.at("loss_scale"));
  EXPECT_EQ(saved.at("scale").to_number<double>(), LossScale::kFirst / std::pow(2, overflows.size()));

  const Outcome first = train({.folder = "parts", .signal_at = 7});
  EXPECT_EQ(first.result.steps, 7);
  const Outcome second = train({.folder = "parts", .resume = true});
  EXPECT_TRUE(second.bits == outcome.bits) << "resumed with its scale";
  EXPECT_LT(second.steps_of("loss_scale").size(), overflows.size());
}

TEST_F(PrecisionTest, WhatNoScaleHelpsAgainstEndsTheRun) {
  task_ = [] { return std::make_unique<SteepTask>(1e9); };
  config_.train.precision = "fp16";
  try {
    train({.folder = "hopeless"});
    FAIL() << "it went on";
  } catch (const AgreedError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("step 1: the gradient is not finite"));
  }
}

TEST(LossScale, GrowsAfterManyFiniteStepsAndComesBackAsItWas) {
  LossScale scale(true);
  ASSERT_TRUE(scale.shrink());
  for (std::int64_t step = 1; step < LossScale::kStepsToGrow; ++step) scale.note_finite();
  EXPECT_EQ(scale.value(), LossScale::kFirst / 2);
  LossScale other(true);
  other.load(scale.save());
  for (LossScale* each : {&scale, &other}) {
    each->note_finite();
    EXPECT_EQ(each->value(), LossScale::kFirst);
  }
  int halvings = 0;
  while (scale.shrink()) ++halvings;
  EXPECT_EQ(halvings, 16);
  EXPECT_EQ(scale.value(), 1);
  for (const char* bad : {"{", "{}", R"({"scale":0,"finite_steps":1})"}) EXPECT_THROW(scale.load(bad), CheckpointError) << bad;
  LossScale off(false);
  EXPECT_FALSE(off.shrink());
  EXPECT_EQ(off.save(), "");
}

}  // namespace
}  // namespace tugline
