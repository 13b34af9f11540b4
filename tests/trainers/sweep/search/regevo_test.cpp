// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tugline/tests/trainers/sweep/search/search_lab.hpp"
#include "tugline/trainers/sweep/search/random_search.hpp"
#include "tugline/trainers/sweep/search/regularized_evolution.hpp"
#include "tugline/trainers/sweep/search/untried.hpp"

namespace tugline::sweep {
namespace {

constexpr double kFailed = std::numeric_limits<double>::infinity();

/// Every seventh trial fails.
double error_or_failure(const Point& point) {
  const double error = architecture_error(point);
  return std::fmod(std::floor(error * 1e6), 7) == 0 ? kFailed : error;
}

TEST(RegEvo, ASuggestionIsAPureFunctionOfSeedNumberAndHistory) {
  const Space space = architectures();
  const auto search = make_regevo(space, 5);
  const std::vector<Observation> history = searched(*search, error_or_failure, 40);
  // In another order, by another object: the histories are those that each suggestion saw.
  const auto again = make_regevo(space, 5), other = make_regevo(space, 6);
  int differ = 0;
  for (std::int64_t number = 39; number >= 0; number -= 3) {
    std::vector<Observation> seen(history.begin(), history.begin() + number);
    for (auto i = std::max<std::int64_t>(0, number - 1); i < number; ++i) seen[i].value = std::numeric_limits<double>::quiet_NaN();
    EXPECT_TRUE(same(again->suggest(number, seen), history[number].point)) << number;
    differ += same(other->suggest(number, seen), history[number].point) ? 0 : 1;
  }
  EXPECT_GT(differ, 10);
}

TEST(RegEvo, EveryPointIsAllowedAndHasAValueExactlyWhereItIsActive) {
  const Space space = architectures();
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    const auto search = make_regevo(space, seed);
    for (const Observation& trial : searched(*search, error_or_failure, 60)) EXPECT_TRUE(is_valid(space, trial.point)) << trial.number;
  }
}

TEST(RegEvo, TriesNoPointTwiceBeforeAllWereTried) {
  const Space space = few_points();
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const auto search = make_regevo(space, seed);
    const std::vector<Observation> history = searched(*search, [](const Point& x) { return x[0] + x[2]; }, 20);
    std::set<std::vector<double>> distinct;
    for (const Observation& trial : history) {
      Point point = trial.point;
      if (std::isnan(point[1])) point[1] = -1;
      distinct.insert(point);
    }
    ASSERT_EQ(distinct.size(), 18u) << "seed " << seed;
    EXPECT_TRUE(is_valid(space, history[18].point) && is_valid(space, history[19].point));
  }
}

TEST(Untried, FindsTheLastPointThatThereIs) {
  const Space space(std::vector<Dimension>(12, {"bit", Dimension::Kind::integer, 0, 1, false, {}, {}}));
  PointSet taken;
  for (int code = 0; code < 4096; ++code) {
    Point point(12);
    for (int d = 0; d < 12; ++d) point[d] = code >> d & 1;
    if (code != 1234) taken.insert(point);
  }
  const Point last = untried(space, 3, 7, taken);
  EXPECT_FALSE(taken.contains(last));
  taken.insert(last);
  EXPECT_TRUE(is_valid(space, untried(space, 3, 7, taken)));
}

TEST(RegEvo, ThePopulationIsTheNewestThatEndedWell) {
  std::vector<Observation> history;
  for (std::int64_t number = 0; number < 70; ++number) history.push_back({number, {0}, static_cast<double>(number)});
  history[69].value = kFailed;
  history[68].value = std::numeric_limits<double>::quiet_NaN();
  const std::vector<Observation> alive = population(history);
  ASSERT_EQ(alive.size(), kPopulation);
  EXPECT_EQ(alive.front().number, 68 - static_cast<std::int64_t>(kPopulation));   // those before were better, and are dead
  EXPECT_EQ(alive.back().number, 67);
}

/// How many 3s a suggestion's 16 choices have. Of 80 trials each 3 makes the value less by one; one that is all 3s came `age` trials ago.
int threes(std::int64_t age) {
  const Dimension operation{"op", Dimension::Kind::choice, 0, 3, false, {"a", "b", "c", "d"}, {}};
  const Space space(std::vector<Dimension>(16, operation));
  std::vector<Observation> history;
  for (std::int64_t number = 0; number < 80; ++number) {
    Point point(16, 0);
    point[number % 16] = static_cast<double>(1 + number / 16 % 2);
    if (number % 3 == 0) point[5 * number % 16] = 3;
    if (number % 5 == 0) point[(7 * number + 1) % 16] = 3;
    if (number == 80 - age) point.assign(16, 3);
    const auto value = 10 - static_cast<double>(std::count(point.begin(), point.end(), 3.0));
    history.push_back({number, std::move(point), value});
  }
  const Point child = make_regevo(space, 1)->suggest(80, history);
  return static_cast<int>(std::count(child.begin(), child.end(), 3.0));
}

TEST(RegEvo, TheOldestHasNoChildrenHoweverGoodItIs) {
  EXPECT_GT(threes(kPopulation), 12);
  EXPECT_LT(threes(kPopulation + 1), 10);
}

TEST(RegEvo, AMutantDiffersInEveryKindOfDimensionAndKeepsMost) {
  const Space space = architectures();
  const Point parent = space.without_inactive({1e-3, 3, 2, 64, 1, 32, 0, 128, 0, 8, 0, 8});
  std::vector<int> changes(space.size());
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Random random(seed, Purpose::search);
    const Point child = mutant(space, parent, random);
    ASSERT_FALSE(same(child, parent));
    ASSERT_TRUE(space.is_forbidden(child) || is_valid(space, child));
    for (std::size_t d = 0; d < space.size(); ++d) changes[d] += same({child[d]}, {parent[d]}) ? 0 : 1;
  }
  for (std::size_t d = 0; d < space.size(); ++d) {
    EXPECT_GT(changes[d], 5) << d;
    EXPECT_LT(changes[d], 250) << d;
  }
}

TEST(RegEvo, FindsArchitecturesThatRandomSearchDoesNot) {
  const Space space = architectures();
  double evolved = 0, drawn = kFailed;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    evolved += best_of(searched(*make_regevo(space, seed), architecture_error, 100)) / 5;
    drawn = std::min(drawn, best_of(searched(*make_random(space, seed), architecture_error, 300)));
  }
  EXPECT_LT(evolved, 0.5 * drawn);   // five searches against the best of five with three times the trials
}

}  // namespace
}  // namespace tugline::sweep
