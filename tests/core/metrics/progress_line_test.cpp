// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/progress_line.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <memory>
#include <sstream>

#include "tugline/core/clock.hpp"
#include "tugline/core/log.hpp"
#include "tugline/tests/core/metrics/screen.hpp"

namespace tugline {
namespace {

class FakeClock : public Clock {
 public:
  double seconds() const override { return now; }
  double now = 1000;
};

class ProgressLineTest : public testing::Test {
 protected:
  void open(ConsoleMode mode, int columns = 120) {
    line_ = std::make_unique<ProgressLine>(out_, clock_, ProgressOptions{.mode = mode, .columns = columns});
  }
  /// A step of 125 samples that took 1/16 s, a fifth of it waiting.
  void step(std::int64_t number, std::vector<RankStep> ranks = {}) {
    StepRecord record;
    record.epoch = 1 + (number - 1) / 100;
    record.step = number;
    record.total_steps = 1200;
    record.loss = 0.5;
    record.accuracy = 0.912;
    record.samples = 125;
    record.samples_per_second = 2000;
    record.seconds.wait = 0.0125;
    record.ranks = std::move(ranks);
    clock_.now += 0.0625;
    line_->step(record);
  }
  std::size_t draws() const {
    const std::string bytes = out_.str();
    std::size_t count = 0;
    for (std::size_t at = bytes.find("epoch"); at != bytes.npos; at = bytes.find("epoch", at + 1)) ++count;
    return count;
  }
  FakeClock clock_;
  std::ostringstream out_;
  std::unique_ptr<ProgressLine> line_;
};

TEST_F(ProgressLineTest, SaysItAllInOneLine) {
  open(ConsoleMode::live);
  line_->evaluation({.split = "validation", .epoch = 1, .step = 90, .loss = 0.1, .accuracy = 0.968});
  for (int number = 1; number <= 200; ++number) step(number);
  line_.reset();
  // 1000 steps of 1/16 s are left.
  EXPECT_THAT(screen_of(out_.str()), testing::ElementsAre("epoch 1  step 90  validation loss 0.1000  accuracy 96.80%",
                                                          "epoch 2  step 200/1200  loss 0.5000  accuracy 91.2%  "
                                                          "val 96.8%  2000 samples/s  1:03 left  wait 20%",
                                                          ""));
}

TEST_F(ProgressLineTest, AnEvaluationStaysAboveTheLiveLine) {
  open(ConsoleMode::live);
  step(1);
  line_->evaluation({.split = "test", .epoch = 1, .step = 1, .loss = std::nan("")});
  line_.reset();
  EXPECT_THAT(screen_of(out_.str()), testing::ElementsAre("epoch 1  step 1  test loss nan", testing::StartsWith("epoch 1  step 1/1200"), ""));
}

TEST_F(ProgressLineTest, RedrawsAtMostTenTimesASecond) {
  open(ConsoleMode::live);
  for (int number = 1; number <= 200; ++number) step(number);  // 12.5 s, every second step is due
  EXPECT_EQ(draws(), 100u);
}

TEST_F(ProgressLineTest, InANarrowTerminalTheLeastImportantFieldsGo) {
  const std::pair<int, std::string> cases[] = {
      {80, "step 200/1200  loss 0.5000  val 96.8%  2000 samples/s  1:03 left  wait 20%"},
      {60, "step 200/1200  loss 0.5000  val 96.8%  1:03 left  wait 20%"},
      {40, "step 200/1200  loss 0.5000  val 96.8%"},
      {15, "step 200/1200"},
      {8, "step 20"},
  };
  for (const auto& [columns, expected] : cases) {
    out_.str("");
    open(ConsoleMode::live, columns);
    line_->evaluation({.split = "validation", .loss = 0.1, .accuracy = 0.968});
    out_.str("");   // what was evaluated stands above, in a line of its own
    for (int number = 1; number <= 200; ++number) step(number);
    line_.reset();
    std::size_t widest = 0;
    EXPECT_THAT(screen_of(out_.str(), &widest), testing::ElementsAre(expected, "")) << columns;
    EXPECT_LT(widest, static_cast<std::size_t>(columns));
  }
}

TEST_F(ProgressLineTest, NamesTheRankThatTheOthersWaitFor) {
  const auto last_line = [this](std::vector<RankStep> odd, std::vector<RankStep> even, int columns = 120) {
    out_.str("");
    open(ConsoleMode::live, columns);
    for (int number = 1; number <= 200; ++number) step(number, number % 2 != 0 ? odd : even);
    line_.reset();
    return screen_of(out_.str()).at(0);
  };
  // Of 1/16 s, rank 0 and 2 wait for 3/80 s: 2/3 times 3/5.
  const std::vector<RankStep> slack{{50, 0, 0.0125}, {25, 0.025, 0.025}, {50, 0, 0.0125}};
  EXPECT_EQ(last_line(slack, slack),
            "epoch 2  step 200/1200  loss 0.5000  accuracy 91.2%  2000 samples/s  1:03 left  wait 40%  slack rank 1");
  EXPECT_EQ(last_line(slack, slack, 87), "epoch 2  step 200/1200  loss 0.5000  2000 samples/s  1:03 left  wait 40%  slack rank 1");
  EXPECT_EQ(last_line(slack, slack, 86), "epoch 2  step 200/1200  loss 0.5000  2000 samples/s  1:03 left  wait 40%");
  const std::vector<RankStep> little{{63, 0, 0.05}, {62, 0, 0.06}};
  EXPECT_THAT(last_line(little, little), testing::EndsWith("wait 8%"));
  const std::vector<RankStep> first{{63, 0, 0.06}, {62, 0, 0.01}}, second{{63, 0, 0.01}, {62, 0, 0.06}};
  EXPECT_THAT(last_line(first, second), testing::EndsWith("wait 40%")) << "they take turns: none is slack";
  const std::vector<RankStep> late{{63, 0, 1}, {62, 0, 0}};
  EXPECT_THAT(last_line(late, late), testing::EndsWith("wait 50%  slack rank 0")) << "nobody waits longer than the step";
  const std::vector<RankStep> server{{63, 0, 0.05}, {62, 0, 0.05}, {0, 0, 0}};
  EXPECT_THAT(last_line(server, server), testing::EndsWith("wait 27%")) << "who has no part in a step waits for nobody";
}

TEST_F(ProgressLineTest, LogLinesStandAboveTheLiveLineUnsmeared) {
  open(ConsoleMode::live);
  step(1);
  log::warn("disk is getting full, {} %", 97);
  step(2), step(3);
  log::info("checkpoint written");
  line_.reset();
  EXPECT_THAT(screen_of(out_.str()), testing::ElementsAre("warning: disk is getting full, 97 %", "checkpoint written",
                                                          testing::StartsWith("epoch 1  step 3/"), ""));
}

TEST_F(ProgressLineTest, LogGoesBackToStderrAfterwards) {
  open(ConsoleMode::live);
  line_.reset();
  testing::internal::CaptureStderr();
  log::info("after the run");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "after the run\n");
  EXPECT_EQ(out_.str(), "");
}

TEST_F(ProgressLineTest, PlainIsALineEveryFewSecondsAndTheLastState) {
  open(ConsoleMode::plain);
  for (int number = 1; number <= 250; ++number) step(number);  // 80 steps are 5 s
  line_.reset();
  const std::string bytes = out_.str();
  EXPECT_EQ(bytes.find_first_of("\r\x1b"), std::string::npos);
  EXPECT_THAT(screen_of(bytes),
              testing::ElementsAre(testing::HasSubstr("step 1/1200"), testing::HasSubstr("step 81/1200"),
                                   testing::HasSubstr("step 161/1200"), testing::HasSubstr("step 241/1200"),
                                   testing::HasSubstr("step 250/1200"), ""));
}

TEST_F(ProgressLineTest, TheLastStateStandsOnce) {
  open(ConsoleMode::plain);
  step(1);
  line_.reset();
  EXPECT_EQ(draws(), 1u);
}

TEST_F(ProgressLineTest, SaysNothingWithoutFacts) {
  open(ConsoleMode::live);
  line_.reset();
  EXPECT_EQ(out_.str(), "");
}

TEST_F(ProgressLineTest, WithoutTotalAccuracyOrSpeedItSaysWhatItKnows) {
  open(ConsoleMode::plain);
  StepRecord record;
  record.epoch = 1;
  record.step = 5;
  record.loss = 12345.6;
  line_->step(record);
  line_.reset();
  EXPECT_EQ(out_.str(), "epoch 1  step 5  loss 12346\n");
}

}  // namespace
}  // namespace tugline
