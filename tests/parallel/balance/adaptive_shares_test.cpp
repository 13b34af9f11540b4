// SPDX-License-Identifier: Apache-2.0
// A simulated cluster: step times are pure functions of shares and of a speed trace, and time is what they add up to.
#include "tugline/parallel/balance/adaptive_shares.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Cluster {
  std::vector<double> fixed_seconds;                              ///< per rank, at speed 1
  std::function<double(std::size_t rank, std::int64_t step)> speed;
  double noise = 0;                                               ///< relative standard deviation
  std::int64_t batch = 256;
  double sample_seconds = 1e-3;
  AdaptiveOptions options{};
  std::mt19937_64 random{7};

  std::size_t ranks() const { return fixed_seconds.size(); }
  StepCost cost(std::size_t rank, std::int64_t step) const {
    const double slowness = 1 / speed(rank, step);
    return {fixed_seconds[rank] * slowness, sample_seconds * slowness};
  }

  struct Outcome {
    std::vector<std::int64_t> shares;   ///< in the end
    std::vector<std::int64_t> changes;  ///< after which steps
    std::string reason;                 ///< of the last
    double seconds = 0, ideal_seconds = 0, lost_steps = 0;
    std::int64_t most_moved = 0;        ///< of one rank's share, against the first
  };

  Outcome run(std::int64_t steps, std::int64_t first = 0) {
    if (!rule) {
      options.global_batch = batch;
      rule = std::make_unique<AdaptiveShares>(static_cast<int>(ranks()), options);
    }
    Outcome outcome;
    std::normal_distribution<double> normal;
    std::vector<std::int64_t> started;
    for (std::int64_t step = first; step < first + steps; ++step) {
      const Piece piece{.step = step, .global_end = batch};
      const auto shares = rule->shares(piece);
      if (started.empty()) started = shares;
      std::vector<StepCost> costs;
      std::vector<RankStep> parts;
      double longest = 0;
      for (std::size_t r = 0; r < ranks(); ++r) {
        costs.push_back(cost(r, step));
        const double seconds = costs[r].seconds(shares[r]) * std::max(0.2, 1 + noise * normal(random));
        longest = std::max(longest, seconds);
        parts.push_back({shares[r], 0.1 * seconds, 0.9 * seconds, 0.9 * seconds});
        outcome.most_moved = std::max(outcome.most_moved, std::abs(shares[r] - started[r]));
      }
      const double ideal = slowest(costs, cut_by_cost(batch, costs, {}));
      outcome.seconds += longest;
      outcome.ideal_seconds += ideal;
      outcome.lost_steps += longest / ideal - 1;
      if (auto change = rule->observe(piece, parts)) {
        outcome.changes.push_back(step);
        outcome.reason = change->reason;
      }
    }
    outcome.shares = rule->shares({.step = first + steps, .global_end = batch});
    return outcome;
  }

  std::unique_ptr<AdaptiveShares> rule{};
};

double constant(std::size_t, std::int64_t) { return 1; }

TEST(AdaptiveShares, EqualRanksKeepEqualShares) {
  Cluster quiet{.fixed_seconds = {0, 0, 0, 0}, .speed = constant, .noise = 0.02};
  EXPECT_THAT(quiet.run(5000).changes, ElementsAre());
  // Noise of 10 % is more than the dead band, and less than reason enough.
  Cluster noisy{.fixed_seconds = {0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01}, .speed = constant, .noise = 0.1};
  const auto outcome = noisy.run(5000);
  EXPECT_LE(outcome.changes.size(), 2u);
  EXPECT_LE(outcome.most_moved, 1);
}

TEST(AdaptiveShares, FindsTheCutInAFewSteps) {
  for (const double fixed : {0.0, 0.02, 0.1}) {   // of 0.128 s for half of the batch
    Cluster cluster{.fixed_seconds = {fixed, fixed}, .speed = [](std::size_t r, std::int64_t) { return r == 1 ? 0.5 : 1; }};
    const auto search = cluster.run(20);
    SCOPED_TRACE(fixed);
    EXPECT_LE(search.lost_steps, 4);
    const auto settled = cluster.run(100, 20);
    EXPECT_LE(settled.seconds / settled.ideal_seconds, 1.03);
    EXPECT_LE(settled.changes.size(), 1u);
  }
}

TEST(AdaptiveShares, MixedSpeeds) {
  const std::vector<double> speeds{1, 0.8, 0.5, 0.25};
  Cluster cluster{.fixed_seconds = {0.005, 0.005, 0.005, 0.005}, .speed = [&](std::size_t r, std::int64_t) { return speeds[r]; },
                  .noise = 0.03};
  cluster.run(50);
  const auto settled = cluster.run(500, 50);
  EXPECT_LE(settled.seconds / settled.ideal_seconds, 1.1);   // of which the noise of the slowest of four is 3 %
  EXPECT_LE(settled.changes.size(), 4u);
}

/// The issue is how much is lost on the way, whatever the number of ranks and the part that does not depend on the share.
TEST(AdaptiveShares, AChangeOfSpeedCostsLittle) {
  for (const std::size_t ranks : {2u, 4u, 8u}) {
    for (const double fixed : {0.0, 0.005}) {
      Cluster cluster{.fixed_seconds = std::vector<double>(ranks, fixed), .speed = [](std::size_t r, std::int64_t step) {
                        return r == 1 && step >= 100 && step < 200 ? 0.5 : 1;
                      }};
      cluster.noise = 0.01;
      cluster.batch = static_cast<std::int64_t>(64 * ranks);
      EXPECT_LE(cluster.run(100).lost_steps, 5);   // the slowest of many noisy ones
      const auto slower = cluster.run(100, 100);
      SCOPED_TRACE(testing::Message() << ranks << " ranks, fixed " << fixed);
      EXPECT_THAT(slower.reason, HasSubstr("rank 1"));
      const double noise = 0.02 * 100;
      EXPECT_LE(slower.lost_steps - noise, 3);
      EXPECT_LE(cluster.run(100, 200).lost_steps - noise, 3);
    }
  }
}

TEST(AdaptiveShares, SharesComeBackToEqual) {
  Cluster cluster{.fixed_seconds = {0.002, 0.002, 0.002}, .speed = [](std::size_t r, std::int64_t step) {
                    return r == 2 && step >= 50 && step < 150 ? 0.6 : 1;
                  }, .noise = 0.01};
  EXPECT_GT(cluster.run(150).shares[0], 90);
  EXPECT_THAT(cluster.run(150, 150).shares, ElementsAre(85, 85, 86));
}

TEST(AdaptiveShares, FollowsADrift) {
  Cluster cluster{.fixed_seconds = {0, 0}, .speed = [](std::size_t r, std::int64_t step) {
                    return r == 0 ? 1 : 1 - 0.0005 * static_cast<double>(std::min<std::int64_t>(step, 1000));
                  }, .noise = 0.02};
  const auto outcome = cluster.run(1500);
  EXPECT_LE(outcome.seconds / outcome.ideal_seconds, 1.05);
  EXPECT_LE(outcome.changes.size(), 40u);
}

TEST(AdaptiveShares, InterferenceNowAndThenChangesNothing) {
  Cluster cluster{.fixed_seconds = {0, 0, 0, 0}, .speed = [](std::size_t r, std::int64_t step) { return r == 3 && step % 10 == 0 ? 0.3 : 1; },
                  .noise = 0.01};
  const auto outcome = cluster.run(2000);
  EXPECT_LE(outcome.changes.size(), 3u);
  EXPECT_LE(outcome.most_moved, 5);   // of 64: on the average the rank is a little slower
}

TEST(AdaptiveShares, ARankThatFreezesForAWhileComesBack) {
  Cluster cluster{.fixed_seconds = {0.001, 0.001, 0.001}, .speed = [](std::size_t r, std::int64_t step) {
                    return r == 1 && step >= 40 && step < 60 ? 0.001 : 1;
                  }};
  EXPECT_LE(cluster.run(60).shares[1], 3);
  const auto after = cluster.run(60, 60);
  EXPECT_THAT(after.shares, ElementsAre(85, 85, 86));
  EXPECT_LE(after.lost_steps, 8);
}

TEST(AdaptiveShares, KeepsBoundsAndMicroBatchesWhole) {
  const auto slow = [](std::size_t r, std::int64_t) { return r == 1 ? 0.05 : 1; };
  Cluster capped{.fixed_seconds = {0, 0, 0}, .speed = slow, .batch = 300, .options = {.bounds = {20, 130}}};
  EXPECT_THAT(capped.run(50).shares, ElementsAre(130, 40, 130));
  Cluster whole{.fixed_seconds = {0, 0, 0}, .speed = slow, .batch = 250, .options = {.unit = 16}};
  const auto shares = whole.run(50).shares;   // 15 whole ones and one of 10
  EXPECT_EQ(shares[0] % 16, 0);
  EXPECT_EQ(shares[1], 16);
  EXPECT_EQ(shares[0] + shares[1] + shares[2], 250);
}

TEST(AdaptiveShares, ARaggedBatchIsCutAlikeAndTeachesNothing) {
  AdaptiveShares rule(2, {.global_batch = 100});
  const std::vector<RankStep> parts{{20, 0, 0.1, 0.1}, {20, 0, 9, 9}};
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(rule.observe({.global_end = 40}, parts).has_value());
  EXPECT_THAT(rule.shares({.global_end = 40}), ElementsAre(20, 20));
}

TEST(AdaptiveShares, FewerSamplesThanRanks) {
  Cluster cluster{.fixed_seconds = {0, 0, 0}, .speed = [](std::size_t r, std::int64_t) { return r == 1 ? 0.1 : 1; }, .batch = 2};
  const auto outcome = cluster.run(50);
  EXPECT_THAT(outcome.shares, ElementsAre(0, 1, 1));
  EXPECT_THAT(outcome.changes, ElementsAre());
}

/// However small the share of a slow rank became, and however much of its step is fixed.
TEST(AdaptiveShares, ARankThatWasSlowComesBack) {
  for (const std::size_t ranks : {2u, 4u, 8u}) {
    for (const double fixed_part : {0.0, 0.2, 0.4, 0.6}) {
      for (const double slowness : {3.0, 5.0, 20.0}) {
        Cluster cluster{.fixed_seconds = std::vector<double>(ranks, 0.064 * fixed_part / (1 - fixed_part)),
                        .speed = [&](std::size_t r, std::int64_t step) { return r == 1 && step >= 20 && step < 120 ? 1 / slowness : 1; },
                        .noise = 0.01, .batch = static_cast<std::int64_t>(64 * ranks)};
        cluster.run(120);
        cluster.run(40, 120);
        const auto after = cluster.run(100, 160);
        EXPECT_LE(after.seconds / after.ideal_seconds, 1.08) << ranks << " ranks, " << fixed_part << " fixed, " << slowness << " times slower";
      }
    }
  }
}

/// A delay that has nothing to do with samples comes, and goes: what it took is no speed.
TEST(AdaptiveShares, ADelayThatGoesAwayIsNoSpeed) {
  for (const std::size_t ranks : {2u, 4u}) {
    AdaptiveShares rule(static_cast<int>(ranks), {.global_batch = static_cast<std::int64_t>(32 * ranks)});
    double lost = 0;
    for (std::int64_t step = 0; step < 300; ++step) {
      const Piece piece{.step = step, .global_end = static_cast<std::int64_t>(32 * ranks)};
      const auto shares = rule.shares(piece);
      std::vector<RankStep> parts;
      double longest = 0;
      for (std::size_t r = 0; r < ranks; ++r) {
        const double delay = r == 1 && step >= 40 && step < 120 ? 0.02 : 0;
        parts.push_back({shares[r], 0, 0.0005 + 5e-5 * static_cast<double>(shares[r]) + delay, 0});
        longest = std::max(longest, parts.back().compute_seconds);
      }
      rule.observe(piece, parts);
      if (step >= 120) lost += longest / (0.0005 + 5e-5 * 32) - 1;
    }
    EXPECT_LE(lost, 3) << ranks << " ranks";
    const auto shares = rule.shares({.step = 300, .global_end = static_cast<std::int64_t>(32 * ranks)});
    for (const std::int64_t share : shares) EXPECT_NEAR(static_cast<double>(share), 32, 1.01);
  }
}

TEST(AdaptiveShares, GoesOnFromItsStateAtAnyStep) {
  const auto speed = [](std::size_t r, std::int64_t step) { return r == 1 ? (step < 100 ? 0.5 : 0.3) : 1; };
  for (std::int64_t stop = 1; stop < 40; ++stop) {
    Cluster first{.fixed_seconds = {0.01, 0.01}, .speed = speed};
    const auto found = first.run(stop).shares;
    Cluster second{.fixed_seconds = {0.01, 0.01}, .speed = speed};
    second.rule = std::make_unique<AdaptiveShares>(2, AdaptiveOptions{.global_batch = 256});
    ASSERT_TRUE(second.rule->restore(first.rule->state()));
    EXPECT_EQ(second.rule->shares({.global_end = 256}), found);
    second.run(140 - stop, stop);   // the second speed among them
    const auto settled = second.run(40, 140);
    EXPECT_LE(settled.seconds / settled.ideal_seconds, 1.03) << "stopped after " << stop;
  }
}

/// Somebody has changed the config, perhaps since a rank ran out of memory.
TEST(AdaptiveShares, GoesOnFromItsStateWithinOtherBounds) {
  Cluster first{.fixed_seconds = {0, 0}, .speed = [](std::size_t r, std::int64_t) { return r == 1 ? 0.25 : 1; }};
  EXPECT_THAT(first.run(40).shares, ElementsAre(205, 51));
  AdaptiveShares small(2, {.global_batch = 256, .bounds = {1, 150}});
  ASSERT_TRUE(small.restore(first.rule->state()));
  EXPECT_THAT(small.shares({.global_end = 256}), ElementsAre(150, 106));
  AdaptiveShares units(2, {.global_batch = 256, .unit = 16});
  ASSERT_TRUE(units.restore(first.rule->state()));
  EXPECT_THAT(units.shares({.global_end = 256}), ElementsAre(208, 48));
}

/// All are slow while the data is cold, one most of all, so that its share is small; then all are what they are.
TEST(AdaptiveShares, WhatWasUsualWhenAllWasSlowIsForgotten) {
  Cluster cluster{.fixed_seconds = {0, 0, 0, 0}, .speed = [](std::size_t r, std::int64_t step) {
    if (step < 60) return 1.0 / 3;
    if (step < 120) return r == 1 ? 1.0 / 15 : 1.0 / 3;
    return r == 1 && step < 180 ? 0.2 : 1.0;
  }};
  cluster.run(220);
  const auto settled = cluster.run(100, 220);
  EXPECT_LE(settled.seconds / settled.ideal_seconds, 1.03);
  EXPECT_LE(settled.changes.size(), 2U);
}

TEST(AdaptiveShares, TheStateOfAnotherJobIsLeftAlone) {
  Cluster first{.fixed_seconds = {0, 0}, .speed = [](std::size_t r, std::int64_t) { return r == 1 ? 0.5 : 1; }};
  first.run(40);
  AdaptiveShares other(3, {.global_batch = 256});
  EXPECT_FALSE(other.restore(first.rule->state()));
  EXPECT_THAT(other.shares({.global_end = 256}), ElementsAre(85, 85, 86));
  EXPECT_THROW(other.restore("[{\"share\":"), CheckpointError);
  EXPECT_THROW(other.restore("7"), CheckpointError);
}

}  // namespace
}  // namespace tugline
