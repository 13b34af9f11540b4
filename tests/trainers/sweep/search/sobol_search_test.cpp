// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/sobol_search.hpp"

#include <gtest/gtest.h>

#include <set>

#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/search/random_search.hpp"

namespace tugline::sweep {
namespace {

Space cube(std::size_t dimensions, Space::Forbidden forbidden = {}) {
  std::vector<Dimension> all(dimensions);
  for (std::size_t d = 0; d < dimensions; ++d) all[d].key = "x" + std::to_string(d);
  return Space(std::move(all), {}, std::move(forbidden));
}

std::vector<Point> first_points(Search& search, std::int64_t count) {
  std::vector<Point> points;
  for (std::int64_t number = 0; number < count; ++number) points.push_back(search.suggest(number, {}));
  return points;
}

/// How many of the cells that cut x into 2^a parts and y into 2^b have a point.
std::size_t filled_cells(const std::vector<Point>& points, std::size_t x, std::size_t y, int a, int b) {
  std::set<std::pair<int, int>> filled;
  for (const Point& point : points) filled.emplace(static_cast<int>(std::ldexp(point[x], a)), static_cast<int>(std::ldexp(point[y], b)));
  return filled.size();
}

/// Warnock's formula for the L2 star discrepancy.
double discrepancy(const std::vector<Point>& points) {
  const double n = static_cast<double>(points.size()), s = static_cast<double>(points[0].size());
  double single = 0, pairs = 0;
  for (const Point& a : points) {
    double product = 1;
    for (const double x : a) product *= 1 - x * x;
    single += product;
    for (const Point& b : points) {
      product = 1;
      for (std::size_t d = 0; d < a.size(); ++d) product *= 1 - std::max(a[d], b[d]);
      pairs += product;
    }
  }
  return std::sqrt(std::pow(3, -s) - std::pow(2, 1 - s) / n * single + pairs / (n * n));
}

TEST(SobolSearch, EveryDimensionIsStratifiedWhateverTheSeed) {
  const Space space = cube(kSobolDimensions);
  for (const std::uint64_t seed : {1, 2, 3}) {
    const auto points = first_points(*make_sobol(space, seed), 1024);
    for (std::size_t d = 0; d < space.size(); ++d) EXPECT_EQ(filled_cells(points, d, d, 10, 0), 1024u) << d;
  }
}

// Sobol 1967: the first two dimensions are a (0, m, 2)-net, which scrambling keeps.
TEST(SobolSearch, FirstTwoDimensionsAreANet) {
  const Space space = cube(2);
  const auto points = first_points(*make_sobol(space, 5), 1024);
  for (int a = 0; a <= 10; ++a) EXPECT_EQ(filled_cells(points, 0, 1, a, 10 - a), 1024u) << a;
}

// A wrong direction number makes some pair of dimensions a little less even, which no other test sees. The digest is of SciPy 1.17's
// sequence.
TEST(SobolSearch, DirectionNumbersAreThoseOfJoeAndKuo) {
  std::uint64_t digest = 0;
  for (std::uint32_t number = 0; number < 1024; ++number) {
    for (std::size_t d = 0; d < kSobolDimensions; ++d) {
      digest = digest * 6364136223846793005u + static_cast<std::uint32_t>(sobol(number, d, 0) * 0x1p32);
    }
  }
  EXPECT_EQ(digest, 0x1fb93969e3517b00u);
}

TEST(SobolSearch, IsFarMoreEvenThanRandomPoints) {
  const Space space = cube(3);
  for (const std::uint64_t seed : {1, 2, 3, 4, 5}) {
    EXPECT_LT(discrepancy(first_points(*make_sobol(space, seed), 256)), 0.3 * discrepancy(first_points(*make_random(space, seed), 256)));
  }
}

TEST(SobolSearch, SeedsGiveOtherPointsAndDimensionsBeyondTheTableAreRandom) {
  const Space space = cube(kSobolDimensions + 2);
  const auto search = make_sobol(space, 1);
  const Point one = search->suggest(0, {}), next = search->suggest(1, {}), two = make_sobol(space, 2)->suggest(0, {});
  for (std::size_t d = 0; d < space.size(); ++d) {
    EXPECT_NE(one[d], two[d]);
    EXPECT_NE(one[d], next[d]);
  }
}

TEST(SobolSearch, StaysOutOfWhatIsForbiddenAndGivesUpWhereAllIs) {
  const Space space = cube(2, [](const Point& point) { return point[0] + point[1] > 0.5; });
  const auto sobol = make_sobol(space, 7), random = make_random(space, 7);
  for (std::int64_t number = 0; number < 64; ++number) {
    EXPECT_FALSE(space.is_forbidden(sobol->suggest(number, {})));
    EXPECT_FALSE(space.is_forbidden(random->suggest(number, {})));
  }
  const Space empty = cube(1, [](const Point&) { return true; });
  EXPECT_THROW(make_sobol(empty, 7)->suggest(0, {}), ConfigError);
  EXPECT_THROW(make_random(empty, 7)->suggest(0, {}), ConfigError);
}

}  // namespace
}  // namespace tugline::sweep
