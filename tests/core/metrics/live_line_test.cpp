// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/live_line.hpp"

#include <gmock/gmock.h>

#include <optional>
#include <sstream>

#include "tugline/core/log.hpp"
#include "tugline/tests/core/metrics/screen.hpp"

namespace tugline {
namespace {

using testing::ElementsAre;

class LiveLineTest : public testing::Test {
 protected:
  std::vector<std::string> screen() const { return screen_of(out_.str()); }

  std::ostringstream out_;
  std::optional<LiveLine> live_;
};

TEST_F(LiveLineTest, IsCutBeforeTheLastColumn) {
  live_.emplace(out_, 10);
  EXPECT_EQ(live_->room(), 9u);
  live_->draw("0123456789");
  std::size_t widest = 0;
  EXPECT_THAT(screen_of(out_.str(), &widest), ElementsAre("012345678"));
  live_->print("lines that stay are not cut");
  EXPECT_THAT(screen(), ElementsAre("lines that stay are not cut", "012345678"));
  EXPECT_EQ(widest, 9u);
  live_.reset();
  live_.emplace(out_, 0);
  EXPECT_EQ(live_->room(), 79u) << "of a terminal that does not say how wide it is";
}

TEST_F(LiveLineTest, NothingOfALongerTextStays) {
  live_.emplace(out_, 80);
  live_->draw("17/30 trials");
  live_->draw("30/30");
  EXPECT_THAT(screen(), ElementsAre("30/30"));
  live_->draw("");
  EXPECT_THAT(screen(), ElementsAre(""));
}

TEST_F(LiveLineTest, LinesStandAboveItWhoeverHasThem) {
  live_.emplace(out_, 80);
  live_->print("before it is drawn");
  live_->draw("1/30");
  live_->print("trial 0");
  log::warn("a worker has died");
  live_->draw("2/30");
  EXPECT_THAT(screen(), ElementsAre("before it is drawn", "trial 0", "warning: a worker has died", "2/30"));
}

TEST_F(LiveLineTest, WhatComesAfterItBeginsALine) {
  live_.emplace(out_, 80);
  live_->draw("30/30");
  live_.reset();
  out_ << "best 0.01";
  EXPECT_THAT(screen(), ElementsAre("30/30", "best 0.01"));
  testing::internal::CaptureStderr();
  log::info("after it");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "after it\n");
}

TEST_F(LiveLineTest, WithoutATextItLeavesNoTrace) {
  live_.emplace(out_, 80);
  live_->print("a line");
  live_.reset();
  EXPECT_EQ(out_.str(), "a line\n");
}

}  // namespace
}  // namespace tugline
