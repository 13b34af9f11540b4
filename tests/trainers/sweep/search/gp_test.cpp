// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/gp.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tugline/tests/trainers/sweep/search/search_lab.hpp"
#include "tugline/trainers/sweep/search/acquisition.hpp"
#include "tugline/trainers/sweep/search/gp_fit.hpp"
#include "tugline/trainers/sweep/search/log_expected_improvement.hpp"
#include "tugline/trainers/sweep/search/random_search.hpp"

namespace tugline::sweep {
namespace {

using Kind = Dimension::Kind;

constexpr double kRunning = std::numeric_limits<double>::quiet_NaN();
constexpr double kFailed = std::numeric_limits<double>::infinity();

Space square() { return Space({{"x", Kind::real, 0, 1, false, {}, {}}, {"y", Kind::real, 0, 1, false, {}, {}}}); }
double bowl(const Point& point) { return std::pow(point[0] - 0.3, 2) + std::pow(point[1] - 0.8, 2); }
double ripples(const Point& x) { return bowl(x) + 0.1 * std::sin(31 * x[0]) * std::cos(23 * x[1]); }

double mixed_error(const Point& x) {
  double error = std::abs(std::log10(x[0]) + 3) + std::abs(x[1] - 20) / 20 + 0.2 * std::abs(x[5] - 3);
  if (x[2] == 0) return error + 1;
  return error + (x[2] == 1 ? std::pow(x[3] - 2, 2) : 0.3 * std::abs(x[4] - 1));
}

std::vector<Observation> of(const Space& space, std::int64_t count, const std::function<double(const Point&)>& evaluate) {
  std::vector<Observation> history;
  for (std::int64_t number = 0; number < count; ++number) {
    history.push_back({number, draw_allowed(space, 5, number)});
    history.back().value = evaluate(history.back().point);
  }
  return history;
}

std::size_t distinct(std::span<const Observation> history) {
  PointSet points;
  for (const Observation& trial : history) points.insert(trial.point);
  return points.size();
}

TEST(Gp, FindsAMinimumThatRandomSearchDoesNot) {
  const Space space = square(), mixed = mixed_space();
  double known = 0, drawn = 0, known_mixed = 0, drawn_mixed = 0;
  for (const std::uint64_t seed : {1, 2, 3}) {
    known += best_of(searched(*make_gp(space, seed), bowl, 25));
    drawn += best_of(searched(*make_random(space, seed), bowl, 60));
    known_mixed += best_of(searched(*make_gp(mixed, seed), mixed_error, 40));
    drawn_mixed += best_of(searched(*make_random(mixed, seed), mixed_error, 120));
  }
  EXPECT_LT(known, 0.01 * drawn);
  EXPECT_LT(known_mixed, 0.3 * drawn_mixed);
}

TEST(Gp, ASuggestionIsAPureFunctionOfSeedNumberAndHistory) {
  const Space space = mixed_space();
  const auto search = make_gp(space, 5);
  const std::vector<Observation> history = searched(*search, mixed_error, 30);
  // By an object that has seen those trials end in another order, and by threads that run at once.
  const auto late = make_gp(space, 5);
  std::vector<Observation> seen(history.begin(), history.begin() + 29);
  for (Observation& trial : seen) trial.value = kRunning;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    Observation& trial = seen[11 * i % seen.size()];
    if (trial.number < 28) trial.value = history[static_cast<std::size_t>(trial.number)].value;
    if (i > 20) late->suggest(29, seen);
  }
  EXPECT_TRUE(same(late->suggest(29, seen), history[29].point));
  std::array<Point, 4> made;
  std::vector<std::thread> threads;
  for (Point& point : made) threads.emplace_back([&] { point = make_gp(space, 5)->suggest(29, seen); });
  for (std::thread& thread : threads) thread.join();
  for (const Point& point : made) EXPECT_TRUE(same(point, history[29].point));
  EXPECT_FALSE(same(make_gp(space, 6)->suggest(2, {}), history[2].point));
  seen[28].value = 0.1;
  EXPECT_FALSE(same(late->suggest(29, seen), history[29].point));
  for (const std::size_t running : {28, 20, 12}) seen[running].value = kRunning;   // looks close to the best
  EXPECT_TRUE(same(late->suggest(29, seen), make_gp(space, 5)->suggest(29, seen)));
}

// Of four suggestions one where nobody else runs, three where several do; in the middle of a plateau there is no close.
TEST(Gp, LooksCloseToTheBest) {
  const Space space = square();
  const auto search = make_gp(space, 4);
  const auto distances = [&](std::vector<Observation> history, int running) {
    for (int i = 0; i < running; ++i) history.push_back({100 + i, {0.05 + 0.02 * i, 0.95}, kRunning});
    const Point centre = std::min_element(history.begin(), history.begin() + 12, [](const auto& a, const auto& b) { return a.value < b.value; })->point;
    std::array<double, 4> most{};   // of the numbers that leave this remainder
    for (std::int64_t number = 200; number < 216; ++number) {
      const Point point = search->suggest(number, history);
      double& away = most[static_cast<std::size_t>(number % 4)];
      away = std::max({away, std::abs(point[0] - centre[0]), std::abs(point[1] - centre[1])});
    }
    return most;
  };
  constexpr double kReach = 0.2 + 1e-12;
  const auto climb = of(space, 12, [](const Point& x) { return std::exp(-5 * x[0]) + 0.01 * x[1]; });   // down to a far corner
  for (const int running : {0, 1, 2, 7}) {
    const auto most = distances(climb, running);
    EXPECT_GT(most[0], kReach) << running;
    EXPECT_LE(most[3], kReach) << running;
    EXPECT_EQ(most[1] <= kReach && most[2] <= kReach, running >= 2) << running;
  }
  for (const double value : {0.3, kFailed}) {
    const auto most = distances(of(space, 12, [&](const Point&) { return value; }), 3);
    EXPECT_GT(most[1], kReach) << value;
  }
}

/// The geometric mean of the distances between points, as the process sees them.
double spread(const PointEncoding& encoding, const std::vector<Point>& points) {
  const Matrix x = encoding.encode(points);
  double logs = 0;
  int pairs = 0;
  for (Eigen::Index i = 0; i < x.rows(); ++i) {
    for (Eigen::Index j = 0; j < i; ++j, ++pairs) logs += std::log((x.row(i) - x.row(j)).norm() + 1e-12);
  }
  return std::exp(logs / pairs);
}

TEST(Gp, EightRunningTrialsAreAllowedAndApart) {
  for (const Space& space : {square(), mixed_space(), architectures()}) {
    const auto error = [&](const Point& x) { return space.size() == 2 ? ripples(x) : std::abs(std::log10(x[0]) + 3); };
    std::vector<Observation> history = of(space, 24, error);
    const auto ended = std::vector(history);
    const auto search = make_gp(space, 2);
    std::vector<Point> running, alone;
    for (std::int64_t number = 24; number < 32; ++number) {
      alone.push_back(search->suggest(number, ended));
      running.push_back(search->suggest(number, history));
      EXPECT_EQ(same(running.back(), alone.back()), number == 24) << number;
      EXPECT_TRUE(is_valid(space, running.back()));
      history.push_back({number, running.back(), kRunning});
    }
    EXPECT_EQ(distinct(history), history.size());
    const PointEncoding encoding(space);
    EXPECT_GT(spread(encoding, running), 5 * spread(encoding, alone));
  }
}

TEST(Gp, TriesEveryAllowedPointOfAFiniteSpaceOnceFromTheFirstTrialOn) {
  const Space space = few_points();
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const auto history = searched(*make_search(space, {"gp", seed}), [](const Point& x) { return x[0] + x[2]; }, 20);
    EXPECT_EQ(distinct(std::span(history).first(18)), 18u) << seed;
    for (const Observation& trial : history) EXPECT_TRUE(is_valid(space, trial.point));
  }
}

TEST(Gp, KeepsAwayFromWhereTrialsFail) {
  const Space space = square();
  const auto history = searched(*make_gp(space, 2), [](const Point& x) { return x[0] > 0.5 ? kFailed : bowl(x); }, 40);
  EXPECT_LE(std::count_if(history.begin() + 15, history.end(), [](const auto& trial) { return trial.point[0] > 0.55; }), 7);
  EXPECT_LT(best_of(history), 1e-3);
}

// A process that learns nothing must still suggest points: not forbidden, new ones where there are.
TEST(Gp, GoesOnWhateverItsHistoryIs) {
  const Space constant({{"x", Kind::real, 0, 1, false, {}, {}}, {"same", Kind::real, 2, 2, true, {}, {}},
                        {"one", Kind::choice, 0, 0, false, {"a"}, {}}, {"only", Kind::integer, 3, 3, false, {}, {}}});
  const Space nothing({{"same", Kind::real, 2, 2, false, {}, {}}, {"only", Kind::integer, 3, 3, false, {}, {}}});
  for (const Space& space : {mixed_space(), constant, nothing}) {
    const auto x = [](const Point& point) { return point[0]; };
    std::vector<std::vector<Observation>> histories(8, of(space, 16, x));
    histories[0] = of(space, 16, [](const Point&) { return 0.7; });
    histories[1] = of(space, 16, [](const Point&) { return 0.0; });
    histories[2] = of(space, 16, [](const Point&) { return kFailed; });
    histories[3][7].value = kFailed;
    for (std::size_t i = 0; i < 16; ++i) {
      histories[4][i].point = histories[4][i % 3].point;                      // duplicates that disagree
      if (i > 0) histories[5][i].value = kFailed;                             // one that did not fail
      if (i > 0) histories[6][i] = {static_cast<std::int64_t>(i), histories[6][0].point, 0.5};   // one point alone
      histories[7][i].value = i < 9 ? 0 : i == 15 ? 1e300 : std::pow(10.0, -20.0 + static_cast<double>(i));   // most are as good
    }
    for (std::size_t h = 0; h < histories.size(); ++h) {
      for (const std::int64_t running : {0, 3}) {
        std::vector<Observation> more = histories[h];
        for (std::int64_t i = 0; i < running; ++i) more.push_back({16 + i, draw_allowed(space, 6, i)});
        const std::size_t before = distinct(more);
        for (const std::int64_t number : {20, 21, 23}) {   // one that explores, one that may look close, and one that does
          const Point point = make_gp(space, 3)->suggest(number, more);
          EXPECT_TRUE(is_valid(space, point)) << h;
          more.push_back({number, point});
          EXPECT_EQ(distinct(more), before + (space.size() == 2 ? 0 : 1)) << h;
          more.pop_back();
        }
      }
    }
  }
}

TEST(Gp, TheModelOfDegenerateDataIsFinite) {
  const Space space = mixed_space();
  const PointEncoding encoding(space);
  const std::vector<Point> one(20, space.draw(1, 0)), same_and_another = [&] {
    std::vector<Point> points(19, space.draw(1, 0));
    points.push_back(space.draw(1, 1));
    return points;
  }();
  const Matrix asked = encoding.encode(std::vector{space.draw(1, 0), space.draw(1, 5)});
  for (const std::vector<Point>& points : {one, same_and_another}) {
    for (const Vector& values : std::array<Vector, 3>{Vector::Constant(20, 3), Vector::LinSpaced(20, 0, 1), Vector::Unit(20, 7) * 1e300}) {
      const TrainingSet data(encoding.encode(points), values);
      const Hyperparameters learned = fit(encoding.layout(), data);
      ASSERT_TRUE(learned.theta.allFinite());
      Vector gradient;
      EXPECT_TRUE(std::isfinite(negative_log_posterior(learned, data, &gradient)) && gradient.allFinite());
      const GaussianProcess process(learned, data.x, OutputWarp(data.values, learned.bend()).t);
      const Beliefs beliefs = process.with_believed(asked).at(asked);
      EXPECT_TRUE(beliefs.mean.allFinite() && beliefs.deviation.allFinite());
      EXPECT_GT(beliefs.deviation.minCoeff(), 0);
    }
  }
}

/// A process of a space that has seen what of() draws.
GaussianProcess learnt(const Space& space, const PointEncoding& encoding, const std::vector<Observation>& history) {
  std::vector<Point> points;
  Vector values(static_cast<Eigen::Index>(history.size()));
  for (std::size_t i = 0; i < history.size(); ++i) {
    points.push_back(history[i].point);
    values[static_cast<Eigen::Index>(i)] = history[i].value;
  }
  const TrainingSet data(encoding.encode(points), values);
  const Hyperparameters learned = fit(encoding.layout(), data);
  return {learned, data.x, OutputWarp(data.values, learned.bend()).t};
}

double most(const GaussianProcess& process, const PointEncoding& encoding, const std::vector<Point>& points) {
  return log_expected_improvement(process.at(encoding.encode(points)), -2).maxCoeff();
}

TEST(Acquisition, ClimbsAboveAFineGridOfTheAllowed) {
  const Space space({{"x", Kind::real, 0, 1, false, {}, {}}, {"y", Kind::real, 0, 1, false, {}, {}},
                     {"c", Kind::choice, 0, 2, false, {"a", "b", "c"}, {}}}, {}, [](const Point& x) { return x[2] == 1; });
  const PointEncoding encoding(space);
  const auto history = of(space, 14, [](const Point& x) { return ripples(x) + 0.3 * x[2]; });
  const GaussianProcess process = learnt(space, encoding, history);
  std::vector<Point> grid;
  for (int i = 0; i <= 100; ++i) {
    for (int j = 0; j <= 100; ++j) {
      for (const double c : {0, 2}) grid.push_back({i / 100.0, j / 100.0, c});
    }
  }
  for (const std::uint64_t seed : {1, 2, 3}) {
    Random random(seed, Purpose::search);
    const Point found = AcquisitionSearch(space, encoding, process, -2, {}, whole(space)).maximise(std::span(&history[0].point, 1), random);
    ASSERT_TRUE(is_valid(space, found));
    EXPECT_GE(most(process, encoding, {found}), most(process, encoding, grid) - 1e-6);
    Vector slope;   // where it is not at an edge it is a top
    log_expected_improvement(process.at_point(encoding.encode({&found, 1}).row(0)), -2, slope);
    for (const std::size_t d : {0, 1}) {
      const bool inside = found[d] > 0 && found[d] < 1;
      EXPECT_NEAR(inside ? slope[encoding.column(d)] : 0, 0, 0.1) << d;
    }
  }
}

/// A whole number is inside with any part of its cell.
bool is_inside(const Space& space, const Region& region, const Point& point) {
  for (std::size_t d = 0; d < space.size(); ++d) {
    const auto levels = static_cast<double>(space.dimensions()[d].levels());
    const double margin = levels > 0 ? 0.5 / levels : 1e-12;   // of scales that are not logarithmic
    const double unit = std::isnan(point[d]) ? region.low[d] : to_unit(space.dimensions()[d], point[d]);
    if (unit < region.low[d] - margin || unit > region.high[d] + margin) return false;
  }
  return true;
}

TEST(Acquisition, StaysInItsRegionAndClimbsThere) {
  const Space space = mixed_space();
  const PointEncoding encoding(space);
  const auto history = of(space, 20, mixed_error);
  const GaussianProcess process = learnt(space, encoding, history);
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const Point& centre = history[seed].point;
    const Region region = around(space, centre, 0.1);
    EXPECT_TRUE(is_inside(space, region, centre));
    Random random(seed, Purpose::search);
    const Point& outside = history[seed + 6].point;
    ASSERT_FALSE(is_inside(space, region, outside));   // nothing to look around of
    const Point drawn = AcquisitionSearch(space, encoding, process, -2, {}, region).maximise({&outside, 1}, random);
    EXPECT_TRUE(is_valid(space, drawn) && is_inside(space, region, drawn));
    const Point found = AcquisitionSearch(space, encoding, process, -2, {}, region).maximise({&centre, 1}, random);
    ASSERT_TRUE(is_valid(space, found));
    EXPECT_TRUE(is_inside(space, region, found)) << seed;
    std::vector<Point> others;
    for (std::int64_t number = 0; others.size() < 3000; ++number) {
      ASSERT_LT(number, 100000);
      Point point = draw_allowed(space, 9, number);
      for (std::size_t d = 0; d < space.size(); ++d) {
        const Dimension& dimension = space.dimensions()[d];
        if (std::isnan(point[d])) continue;
        point[d] = from_unit(dimension, region.low[d] + to_unit(dimension, point[d]) * (region.high[d] - region.low[d]));
      }
      if (is_inside(space, region, point) && !space.is_forbidden(point)) others.push_back(std::move(point));
    }
    EXPECT_GE(most(process, encoding, {found}), most(process, encoding, others) - 1e-6) << seed;
  }
}

TEST(Acquisition, ARegionBoundsWhatIsLikeAReal) {
  const Space space({{"few", Kind::ordinal, 0, 2, false, {"1", "2", "3"}, {}}, {"log", Kind::integer, 1, 1000, true, {}, {}},
                     {"c", Kind::choice, 0, 4, false, {"a", "b", "c", "d", "e"}, {}}, {"x", Kind::real, 0, 10, false, {}, {}},
                     {"off", Kind::real, 0, 1, false, {}, {2}}},
                    [](std::size_t, const Point& x) { return x[2] == 4; });
  const Region region = around(space, {0, 30, 0, 9.5, std::nan("")}, 0.1);
  for (const std::size_t d : {0, 2, 4}) EXPECT_EQ(std::pair(region.low[d], region.high[d]), std::pair(0.0, 1.0)) << d;
  EXPECT_DOUBLE_EQ(region.high[1] - region.low[1], 0.2);
  EXPECT_DOUBLE_EQ(region.low[3], 0.85);
  EXPECT_EQ(region.high[3], 1);
}

TEST(Acquisition, LooksAtEveryPointOfAFiniteSpace) {
  const Space space({{"batch", Kind::integer, 1, 9, true, {}, {}}, {"c", Kind::choice, 0, 2, false, {"a", "b", "c"}, {}}}, {},
                    [](const Point& x) { return x[0] == 8 && x[1] == 0; });
  const PointEncoding encoding(space);
  const GaussianProcess process = learnt(space, encoding, of(space, 6, [](const Point& x) { return -x[0] + 0.2 * x[1]; }));
  std::vector<Point> open;
  for (double batch = 1; batch <= 9; ++batch) {
    for (double c = 0; c < 3; ++c) {
      if (!space.is_forbidden({batch, c})) open.push_back({batch, c});
    }
  }
  Random random(1, Purpose::search);
  PointSet taken;
  while (!open.empty()) {   // the best first
    const Point found = AcquisitionSearch(space, encoding, process, -2, taken, whole(space)).maximise({}, random);
    const auto position = std::find(open.begin(), open.end(), found);
    ASSERT_NE(position, open.end());
    EXPECT_EQ(most(process, encoding, {found}), most(process, encoding, open));
    open.erase(position);
    taken.insert(found);
  }
  EXPECT_TRUE(AcquisitionSearch(space, encoding, process, -2, taken, whole(space)).maximise({}, random).empty());
}

}  // namespace
}  // namespace tugline::sweep
