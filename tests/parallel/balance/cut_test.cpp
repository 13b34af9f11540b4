// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/balance/cut.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "tugline/core/config/run_config.hpp"
#include "tugline/parallel/balance/fixed_shares.hpp"
#include "tugline/parallel/balance/make_share_rule.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

using testing::ElementsAre;
constexpr double kNever = std::numeric_limits<double>::infinity();

std::int64_t sum(const std::vector<std::int64_t>& shares) { return std::accumulate(shares.begin(), shares.end(), std::int64_t{0}); }

TEST(Cut, SharesAreInProportionToSpeedWhereNothingIsFixed) {
  EXPECT_THAT(cut_by_cost(96, std::vector<StepCost>{{0, 1}, {0, 2}}, {}), ElementsAre(64, 32));
  EXPECT_THAT(cut_by_cost(51, std::vector<StepCost>{{0, 1}, {0, 1 / 0.8}, {0, 2}, {0, 4}}, {}), ElementsAre(20, 16, 10, 5));
}

TEST(Cut, AllFinishTogetherWhereSomethingIs) {
  // 10 + 40 = 20 + 2 * 15
  EXPECT_THAT(cut_by_cost(55, std::vector<StepCost>{{10, 1}, {20, 2}}, {}), ElementsAre(40, 15));
  // A rank whose fixed part alone is longer than the others' whole step keeps the least.
  EXPECT_THAT(cut_by_cost(20, std::vector<StepCost>{{0, 1}, {0, 1}, {100, 1}}, {.least = 2}), ElementsAre(9, 9, 2));
}

TEST(Cut, ARankThatGetsNowhereKeepsTheLeast) {
  EXPECT_THAT(cut_by_cost(10, std::vector<StepCost>{{0, 1}, {0, kNever}}, {.least = 1}), ElementsAre(9, 1));
  EXPECT_THAT(cut_by_cost(10, std::vector<StepCost>{{0, kNever}, {0, kNever}}, {}), ElementsAre(5, 5));
}

TEST(Cut, FewerSamplesThanRanksAndOneRank) {
  EXPECT_THAT(cut_by_cost(2, std::vector<StepCost>{{0, 3}, {0, 1}, {0, 1}}, {}), ElementsAre(0, 1, 1));
  EXPECT_THAT(cut_by_cost(0, std::vector<StepCost>{{0, 3}, {0, 1}}, {}), ElementsAre(0, 0));
  EXPECT_THAT(cut_by_cost(7, std::vector<StepCost>{{5, 3}}, {}), ElementsAre(7));
}

TEST(Cut, BoundsThatCannotBeKeptGiveWay) {
  EXPECT_THAT(cut_by_cost(100, std::vector<StepCost>{{0, 1}, {0, 3}}, {.least = 1, .most = 60}), ElementsAre(60, 40));
  EXPECT_THAT(cut_by_cost(100, std::vector<StepCost>{{0, 1}, {0, 3}}, {.least = 1, .most = 10}), ElementsAre(50, 50));
  EXPECT_THAT(cut_by_cost(100, std::vector<StepCost>{{0, 1}, {0, 99}}, {.least = 80}), ElementsAre(50, 50));
}

TEST(Cut, ByWeight) {
  EXPECT_THAT(cut_by_weight(30, std::vector<double>{1, 0.5}), ElementsAre(20, 10));
  EXPECT_THAT(cut_by_weight(30, std::vector<double>{1, 0, 2}), ElementsAre(10, 0, 20));
  EXPECT_THAT(cut_by_weight(256, std::vector<double>{1e60, 1e60}), ElementsAre(128, 128));
  EXPECT_THAT(cut_by_weight(31, std::vector<double>{0, 0, 0}), ElementsAre(11, 10, 10));
}

TEST(Cut, EqualSharesStayEqualAndOthersKeepTheirProportionInARaggedBatch) {
  EXPECT_THAT(equal_shares(10, 3), ElementsAre(3, 3, 4));
  EXPECT_THAT(equal_shares(10, 2, 4), ElementsAre(4, 6));   // micro-batches of 4, 4 and 2
  EXPECT_THAT(scale_shares(7, std::vector<std::int64_t>{3, 3, 4}), ElementsAre(2, 2, 3));
  EXPECT_THAT(scale_shares(15, std::vector<std::int64_t>{60, 30}), ElementsAre(10, 5));
  EXPECT_THAT(scale_shares(3, std::vector<std::int64_t>{90, 5, 5}), ElementsAre(1, 1, 1));
  EXPECT_THAT(scale_shares(10, std::vector<std::int64_t>{12, 4}, 4), ElementsAre(8, 2));
  EXPECT_THAT(scale_shares(200, std::vector<std::int64_t>{128, 0, 128}, 128), ElementsAre(128, 0, 72));
  EXPECT_THAT(scale_shares(300, std::vector<std::int64_t>{256, 128}, 128), ElementsAre(256, 44)) << "one unit apart is not equal";
  EXPECT_THAT(scale_shares(10, std::vector<std::int64_t>{254, 2}, 1, 2), ElementsAre(8, 2));
}

TEST(Cut, RecordedSharesAreUsedFromTheirStepOn) {
  FixedShares recorded({{0, {50, 50}}, {3, {75, 25}}}, 100);
  const auto at = [](std::int64_t step, std::int64_t samples) { return Piece{.step = step, .global_end = samples}; };
  EXPECT_THAT(recorded.shares(at(2, 100)), ElementsAre(50, 50));
  EXPECT_FALSE(recorded.observe(at(1, 100), {}).has_value());
  ASSERT_TRUE(recorded.observe(at(2, 100), {}).has_value());
  EXPECT_THAT(recorded.shares(at(3, 100)), ElementsAre(75, 25));
  EXPECT_THAT(recorded.shares(at(9, 40)), ElementsAre(30, 10));
}

/// Thousands of random jobs: what must hold for each of them.
TEST(Cut, Properties) {
  std::mt19937_64 random(20261127);
  const auto uniform = [&](double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); };
  const auto below = [&](std::int64_t bound) { return std::uniform_int_distribution<std::int64_t>(0, bound - 1)(random); };
  for (int round = 0; round < 5000; ++round) {
    const auto ranks = static_cast<std::size_t>(1 + below(20));
    const std::int64_t total = below(10) == 0 ? below(static_cast<std::int64_t>(ranks) + 1) : below(5000);
    std::vector<StepCost> costs(ranks);
    for (StepCost& cost : costs) cost = {below(2) == 0 ? 0 : uniform(0, 0.01), below(30) == 0 ? kNever : uniform(1e-5, 1e-3)};
    ShareBounds bounds{below(4)};
    if (below(3) == 0) bounds.most = 1 + below(2 * total / static_cast<std::int64_t>(ranks) + 2);
    const auto shares = cut_by_cost(total, costs, bounds);
    SCOPED_TRACE(testing::Message() << "round " << round << ", " << ranks << " ranks, " << total << " samples");
    ASSERT_EQ(shares.size(), ranks);
    ASSERT_EQ(sum(shares), total);
    const auto ranks64 = static_cast<std::int64_t>(ranks);
    for (const std::int64_t share : shares) {
      ASSERT_GE(share, std::min(bounds.least, total / ranks64));
      ASSERT_LE(share, std::max(bounds.most, (total + ranks64 - 1) / ranks64));
    }
    // The faster of two ranks has no fewer samples.
    for (std::size_t a = 0; a < ranks; ++a) {
      for (std::size_t b = 0; b < ranks; ++b) {
        if (costs[a].fixed_seconds <= costs[b].fixed_seconds && costs[a].sample_seconds < costs[b].sample_seconds) {
          ASSERT_GE(shares[a], shares[b]);
        }
      }
    }
    // No sample is better placed elsewhere: moving one from the slowest rank makes another as slow.
    const double level = slowest(costs, shares);
    for (std::size_t from = 0; from < ranks && std::isfinite(level); ++from) {
      if (shares[from] <= std::min(bounds.least, total / ranks64) || costs[from].seconds(shares[from]) < level) continue;
      for (std::size_t to = 0; to < ranks; ++to) {
        if (to == from || shares[to] >= bounds.most) continue;
        const double alone = shares[to] == 0 ? costs[to].seconds(1) : costs[to].seconds(shares[to] + 1);
        ASSERT_GE(alone, level - costs[from].sample_seconds) << "from " << from << " to " << to;
      }
    }
    // Numbered otherwise, ranks get the same shares, but for whom a tie falls to.
    std::vector<std::size_t> order(ranks);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    std::vector<StepCost> other;
    for (const std::size_t r : order) other.push_back(costs[r]);
    const auto permuted = cut_by_cost(total, other, bounds);
    for (std::size_t i = 0; i < ranks; ++i) ASSERT_LE(std::abs(permuted[i] - shares[order[i]]), 1);
    // A rank that becomes faster loses nothing but a rounding.
    const auto r = static_cast<std::size_t>(below(ranks64));
    costs[r].sample_seconds *= 0.7;
    ASSERT_GE(cut_by_cost(total, costs, bounds)[r], shares[r] - 1);
  }
}

TEST(ShareRule, AutoGoesByWhatRanksComputeOn) {
  for (const bool alike : {true, false}) {
    run_thread_team(2, [&](std::unique_ptr<Communicator> communicator) {
      World world(std::move(communicator));
      RunConfig config;
      config.data.batch = 8;
      const ShareChoice choice = choose_share_rule(config, world, 1, {}, alike || world.rank() == 0 ? "NVIDIA H200 of 139 GiB" : "NVIDIA H100 of 79 GiB");
      EXPECT_EQ(choice.rule == nullptr, alike);
      if (!alike) {
        EXPECT_THAT(choice.reason, testing::MatchesRegex("adaptive, since ranks differ: rank 1 on .* has NVIDIA H100 of 79 GiB, rank 0 on .* has NVIDIA H200 of 139 GiB"));
      }
      config.train.device = "cuda";
      config.train.cuda_graphs = true;   // records a pass for each share
      EXPECT_EQ(choose_share_rule(config, world, 1, {}, std::to_string(world.rank())).reason, "equal");
    });
  }
}

}  // namespace
}  // namespace tugline
