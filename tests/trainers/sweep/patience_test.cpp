// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/patience.hpp"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"

namespace tugline::sweep {
namespace {

class StillClock final : public Clock {
 public:
  double seconds() const override { return now; }
  double now = 1000;
};

class PatienceTest : public testing::Test {
 protected:
  void SetUp() override {
    log::set_console([this](std::string_view line) { warnings_.emplace_back(line); });
  }
  void TearDown() override { log::set_console(nullptr); }
  static void fail() { throw IoError("server busy"); }

  StillClock clock_;
  std::vector<std::string> warnings_;
};

TEST_F(PatienceTest, LastsForALeaseSinceTheLastSuccess) {
  Patience patience(10, Patience::Trust::from_the_start, clock_);
  clock_.now += 10;
  EXPECT_FALSE(patience.try_call(fail)) << "as if a call had succeeded when it was made";
  EXPECT_TRUE(patience.try_call([] {}));
  EXPECT_EQ(patience.seconds_since_success(), 0);
  clock_.now += 10;
  EXPECT_FALSE(patience.try_call(fail));
  EXPECT_EQ(patience.seconds_since_success(), 10) << "a failure is none";
  clock_.now += 1;
  EXPECT_THROW(patience.try_call(fail), IoError);
  patience.renew();
  EXPECT_FALSE(patience.try_call(fail));
  EXPECT_THAT(warnings_, testing::ElementsAre("warning: server busy; trying again")) << "the log says the same once";
}

TEST_F(PatienceTest, IsToBeEarnedWhereTheFirstFailureCounts) {
  Patience patience(10, Patience::Trust::once_earned, clock_);
  EXPECT_GT(patience.seconds_since_success(), 1e9);
  EXPECT_THROW(patience.try_call(fail), IoError);
  EXPECT_TRUE(patience.try_call([] {}));
  EXPECT_FALSE(patience.try_call(fail));
}

TEST_F(PatienceTest, IsForFileSystemsAlone) {
  Patience patience(10, Patience::Trust::from_the_start, clock_);
  EXPECT_THROW(patience.try_call([] { throw ConfigError("another sweep"); }), ConfigError);
}

}  // namespace
}  // namespace tugline::sweep
