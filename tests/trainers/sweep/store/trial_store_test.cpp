// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/store/trial_store.hpp"

#include <gtest/gtest.h>

#include <iostream>
#include <set>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/tests/trainers/sweep/store/shim.hpp"

namespace tugline::sweep {
namespace {

class StillClock final : public Clock {
 public:
  double seconds() const override { return now; }
  double now = 1;
};

class OneStore : public testing::Test {
 protected:
  TrialStore open(const std::string& worker) { return TrialStore(files_, "/sweep", {.worker = worker, .lease_seconds = 10}, clock_); }

  Shim shim_{0};
  Files& files_ = shim_.calm_files();
  StillClock clock_;
};

TEST_F(OneStore, ATakenOverClaimIsLostAndItsEndRefused) {
  TrialStore dead = open("dead"), heir = open("heir");
  const auto old = dead.append(0, "decision");
  heir.refresh();
  EXPECT_FALSE(heir.take_over(0));
  clock_.now += 10;
  files_.append("/sweep/tmp/dead_7_000001.0", "left behind");
  EXPECT_TRUE(dead.holds(*old));
  const auto claim = heir.take_over(0);
  ASSERT_TRUE(claim);
  EXPECT_EQ(claim->attempt, 2);
  EXPECT_FALSE(dead.holds(*old));
  EXPECT_FALSE(dead.finish(*old, {.final = true, .content = "late"}));
  EXPECT_TRUE(heir.finish(*claim, {.final = false, .content = "paused"}));
  EXPECT_TRUE(heir.finish(*claim, {.final = false, .content = "paused"})) << "the same call again";
  EXPECT_FALSE(heir.finish(*claim, {.final = false, .content = "other"}));
  dead.refresh();
  EXPECT_EQ(dead.job(0).state, Job::State::open);
  EXPECT_EQ(dead.job(0).ends.size(), 1u);
  EXPECT_TRUE(files_.list("/sweep/tmp").empty());
}

TEST_F(OneStore, AClaimsOwnLeaseNeedsNoBeatsAndAnotherProcessMayFinishIt) {
  TrialStore ask = open("ask"), tell = open("tell");
  ASSERT_TRUE(ask.append(0, "a", 30.0) && ask.append(1, "b", 30.0));
  tell.refresh();
  clock_.now += 29;
  EXPECT_FALSE(tell.can_be_taken(0)) << "its worker has been silent for more than its own lease";
  ASSERT_TRUE(tell.newest_claim(1));
  EXPECT_TRUE(tell.finish(*tell.newest_claim(1), {.final = true, .content = "told"}));
  ask.beat();
  clock_.now += 1;
  EXPECT_TRUE(tell.can_be_taken(0)) << "its worker beats, but the lease has passed";
  EXPECT_FALSE(tell.can_be_taken(1));
  ask.refresh();
  EXPECT_EQ(ask.job(1).state, Job::State::ended);
  EXPECT_FALSE(tell.newest_claim(1));
}

TEST_F(OneStore, WhatWasSaidSurvivesAPowerCut) {
  TrialStore store = open("w");
  const auto claim = store.append(0, "decision");
  const auto state_after_cut = [&] {
    shim_.cut_power();
    TrialStore reader = open("reader");
    reader.refresh();
    return reader.size() == 1 ? std::optional(reader.job(0).state) : std::nullopt;
  };
  EXPECT_EQ(state_after_cut(), Job::State::running);
  ASSERT_TRUE(store.finish(*claim, {.final = true, .content = "result"}));
  EXPECT_EQ(state_after_cut(), Job::State::ended);
  ASSERT_TRUE(store.reopen(0, "why"));
  EXPECT_EQ(state_after_cut(), Job::State::open);
  EXPECT_FALSE(files_.list("/sweep/again").empty());
}

TEST_F(OneStore, RefreshDoesNotReadAllOver) {
  TrialStore store = open("w");
  constexpr std::int64_t kJobs = 3000;
  for (std::int64_t i = 0; i < kJobs; ++i) store.finish(*store.append(i, "d"), {.final = true, .content = "r"});
  TrialStore late = open("late");
  late.refresh();
  EXPECT_EQ(late.size(), kJobs);
  shim_.calls = 0;
  late.refresh();
  EXPECT_LE(shim_.calls, 2);
  ASSERT_TRUE(store.reopen(77, "why"));
  late.refresh();
  EXPECT_EQ(late.job(77).state, Job::State::open);
  EXPECT_THROW(late.append(kJobs + 1, "d"), Error);
}

TEST_F(OneStore, WhoFollowsOpensNoFilePerJob) {
  TrialStore store = open("w"), follower = open("follower");
  const auto make = [&](std::int64_t jobs) {
    for (std::int64_t i = 0; i < jobs; ++i) store.finish(*store.append(store.size(), "d"), {.final = true, .content = "r"});
  };
  make(1);
  follower.refresh();
  make(64);
  shim_.calls = 0;
  follower.refresh();
  EXPECT_LE(shim_.calls, 5);
  ASSERT_EQ(follower.size(), 65);
  for (std::int64_t number = 0; number < 65; ++number) EXPECT_EQ(follower.job(number).state, Job::State::ended);
  ASSERT_TRUE(store.reopen(7, "why"));
  follower.refresh();
  EXPECT_EQ(follower.job(7).state, Job::State::open);
}

/// Calls on the file system for each job that is claimed and ended, of all processes together.
double calls_per_job(int processes) {
  Shim shim(2, false);
  shim.call_seconds = 0.00005;   // as on a local disk: rests are made for that
  constexpr std::int64_t kJobs = 300;
  int names = 0;
  const Shim::Program program = [&](Files& files, const Clock& clock, Random&) {
    TrialStore store(files, "/sweep", {.worker = fmt::format("w{}", names++)}, clock);
    for (; store.size() < kJobs; store.refresh()) {
      if (const auto claim = store.append(store.size(), "d")) store.finish(*claim, {.final = true, .content = "r"});
    }
  };
  EXPECT_TRUE(shim.run(std::vector(static_cast<std::size_t>(processes), program), 1'000'000));
  return static_cast<double>(shim.calls) / kJobs;
}

TEST(Racing, AJobCostsLittleMoreAmongMany) {
  const double few = calls_per_job(8), many = calls_per_job(64);
  std::cout << fmt::format("{:.0f} calls per job with 8 processes, {:.0f} with 64", few, many) << std::endl;
  EXPECT_LT(many, 3 * few);   // not 8
}

/// Of many that want the next number most see that another is at it, and write nothing.
TEST(Racing, WritesLittleInVain) {
  Shim shim(1, false);
  constexpr std::int64_t kJobs = 100;
  int names = 0;
  const Shim::Program program = [&](Files& files, const Clock& clock, Random&) {
    TrialStore store(files, "/sweep", {.worker = fmt::format("w{}", names++)}, clock);
    for (; store.size() < kJobs; store.refresh()) store.append(store.size(), "d");
  };
  ASSERT_TRUE(shim.run(std::vector(64, program), 1'000'000));
  std::cout << shim.writes << " writes for " << kJobs << " jobs" << std::endl;
  EXPECT_LE(shim.writes, 6 * kJobs);   // not 64
}

TEST(WorkerId, IsUniqueAndAllowed) {
  std::set<std::string> names;
  Shim shim(0);
  for (int i = 0; i < 100; ++i) names.insert(make_worker_id());
  EXPECT_EQ(names.size(), 100u);
  EXPECT_NO_THROW(TrialStore(shim.calm_files(), "/sweep", {.worker = *names.begin()}));
  EXPECT_THROW(TrialStore(shim.calm_files(), "/sweep", {.worker = "a_b"}), Error);
}

}  // namespace
}  // namespace tugline::sweep
