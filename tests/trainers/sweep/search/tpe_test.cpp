// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/tpe.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <set>

#include "tugline/trainers/sweep/search/parzen.hpp"
#include "tugline/trainers/sweep/search/random_search.hpp"

namespace tugline::sweep {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kFailed = std::numeric_limits<double>::infinity();

Dimension dimension(Dimension::Kind kind, double low, double high, std::vector<std::size_t> parents = {}) {
  return {"x", kind, low, high, false, {}, std::move(parents)};
}

/// A choice of three; a real that only its value 1 has; an ordinal of five.
Space tree() {
  return Space({dimension(Dimension::Kind::choice, 0, 2), dimension(Dimension::Kind::real, 0, 1, {0}),
                dimension(Dimension::Kind::ordinal, 0, 4)},
               [](std::size_t, const Point& point) { return point[0] == 1; });
}

Space square() { return Space({dimension(Dimension::Kind::real, 0, 1), dimension(Dimension::Kind::real, 0, 1)}); }

using Function = std::function<double(const Point&)>;

std::vector<Observation> run(Search& search, const Function& function, std::int64_t trials, std::vector<Observation> history = {}) {
  for (auto number = static_cast<std::int64_t>(history.size()); number < trials; ++number) {
    Point point = search.suggest(number, history);
    const double value = function(point);
    history.push_back({number, std::move(point), value});
  }
  return history;
}

double bowl(const Point& point) { return std::pow(point[0] - 0.3, 2) + std::pow(point[1] - 0.8, 2); }

double best_of(const std::vector<Observation>& history) {
  return std::min_element(history.begin(), history.end(), [](const auto& a, const auto& b) { return a.value < b.value; })->value;
}

/// Around four observations of the tree, two of which know its real.
Parzen observed(const Space& space, Parzen::Width width) {
  Eigen::ArrayXXd centres(4, 3);
  centres << 1 / 6., kNone, 0.1, 0.5, 0.2, 0.5, 5 / 6., kNone, 0.9, 0.5, 0.95, 0.3;
  return Parzen(space, centres, Eigen::ArrayXd::LinSpaced(4, 1, 2), 0.5, width);
}

TEST(Parzen, IsADensityWhoseMissingDimensionsAreIntegratedOut) {
  const Space space = tree();
  for (const auto width : {Parzen::Width::spread, Parzen::Width::gap}) {
    const Parzen parzen = observed(space, width);
    double everything = 0;
    for (const double choice : {1 / 6., 0.5, 5 / 6.}) {
      for (const double cell : {0.1, 0.3, 0.5, 0.7, 0.9}) {
        double integral = 0;
        for (int i = 0; i < 2000; ++i) integral += std::exp(parzen.log_density({choice, (i + 0.5) / 2000, cell})) / 2000;
        EXPECT_NEAR(integral, std::exp(parzen.log_density({choice, kNone, cell})), 1e-6);
        everything += integral / 15;
      }
    }
    EXPECT_NEAR(everything, 1, 0.02);
  }
}

TEST(Parzen, DrawsWhatItsDensitySays) {
  const Space space = tree();
  const Parzen parzen = observed(space, Parzen::Width::spread);
  Random random(3, Purpose::search);
  constexpr int kDraws = 40000;
  std::array<double, 3> choices{};
  std::array<double, 10> tenths{};
  for (int i = 0; i < kDraws; ++i) {
    const std::vector<double> unit = parzen.draw(random);
    ++choices[std::min<std::size_t>(2, static_cast<std::size_t>(unit[0] * 3))];
    ++tenths[static_cast<std::size_t>(unit[1] * 10)];
  }
  for (std::size_t c = 0; c < 3; ++c) {
    EXPECT_NEAR(choices[c] / kDraws, std::exp(parzen.log_density({(static_cast<double>(c) + 0.5) / 3, kNone, kNone})) / 3, 0.01) << c;
  }
  for (std::size_t t = 0; t < 10; ++t) {
    double mass = 0;
    for (int i = 0; i < 100; ++i) {
      mass += std::exp(parzen.log_density({kNone, (static_cast<double>(t) + (i + 0.5) / 100) / 10, kNone})) / 1000;
    }
    EXPECT_NEAR(tenths[t] / kDraws, mass, 0.01) << t;
  }
}

TEST(Tpe, FindsAMinimumThatRandomSearchDoesNot) {
  const Space space = square();
  for (const std::uint64_t seed : {1, 2, 3, 4, 5}) {
    EXPECT_LT(best_of(run(*make_tpe(space, seed), bowl, 60)), 0.2 * best_of(run(*make_random(space, seed), bowl, 60))) << seed;
  }
}

TEST(Tpe, SuggestionIsAPureFunctionToTheBit) {
  const Space space = square();
  const auto search = make_tpe(space, 9);
  auto history = run(*search, bowl, 40);
  history[17].value = kFailed;
  history[38].value = history[39].value = kNone;
  const Point once = search->suggest(40, history);
  EXPECT_EQ(search->suggest(40, history), once);
  EXPECT_EQ(make_tpe(space, 9)->suggest(40, history), once);
  EXPECT_NE(make_tpe(space, 10)->suggest(40, history), once);
  EXPECT_NE(search->suggest(41, history), once);
}

TEST(Tpe, KeepsAwayFromWhereTrialsFail) {
  const Space space = square();
  const auto history = run(*make_tpe(space, 2), [](const Point& point) { return point[0] > 0.5 ? kFailed : bowl(point); }, 60);
  EXPECT_LE(std::count_if(history.begin() + 30, history.end(), [](const auto& trial) { return trial.has_failed(); }), 3);
}

TEST(Tpe, SuggestsPointsWhereAllHaveFailed) {
  const Space space = square();
  const auto history = run(*make_tpe(space, 2), [](const Point&) { return kFailed; }, 30);
  EXPECT_EQ(history.size(), 30u);
}

// Workers that know the same must not all take what looks best.
TEST(Tpe, RunningTrialsPushOthersAway) {
  const Space space = square();
  const auto search = make_tpe(space, 4);
  const auto history = run(*search, bowl, 40);
  double apart = 0, together = 0;
  for (std::int64_t number = 40; number < 140; ++number) {
    auto with_running = history;
    with_running.push_back({number, search->suggest(number, history), kNone});
    const Point& running = with_running.back().point;
    const auto distance = [&](const Point& p) { return std::log(std::hypot(p[0] - running[0], p[1] - running[1])); };
    apart += distance(search->suggest(number + 1, with_running));
    together += distance(search->suggest(number + 1, history));
  }
  EXPECT_GT(apart, together + 100 * std::log(1.1));
}

TEST(Tpe, LearnsFromBranchesThatDoNotHaveADimension) {
  const Space space = tree();
  // The ordinal matters alike in all branches, but is only seen in those without the real.
  std::vector<Observation> history;
  for (std::int64_t number = 0; number < 40; ++number) {
    const double ordinal = static_cast<double>(number % 5);
    history.push_back({number, {number % 2 == 0 ? 0.0 : 2.0, kNone, ordinal}, std::abs(ordinal - 3)});
  }
  const auto search = make_tpe(space, 6);
  int good = 0, in_branch = 0;
  for (std::int64_t number = 40; number < 240; ++number) {
    const Point point = search->suggest(number, history);
    EXPECT_EQ(std::isnan(point[1]), point[0] != 1);
    if (point[0] != 1) continue;
    ++in_branch;
    good += point[2] == 3;
  }
  EXPECT_GT(in_branch, 20);
  EXPECT_GT(good, in_branch / 2);
}

TEST(Tpe, TriesEveryAllowedPointOfAFiniteSpaceOnce) {
  const Space space({dimension(Dimension::Kind::integer, 1, 5), dimension(Dimension::Kind::choice, 0, 3)}, {},
                    [](const Point& point) { return point[0] * point[1] > 8; });
  const auto history = run(*make_tpe(space, 1), [](const Point& point) { return point[0] - point[1]; }, 16);
  std::set<Point> tried;
  for (const Observation& trial : history) {
    EXPECT_FALSE(space.is_forbidden(trial.point));
    tried.insert(trial.point);
  }
  EXPECT_EQ(tried.size(), 16u);
}

}  // namespace
}  // namespace tugline::sweep
