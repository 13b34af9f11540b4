// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/grid_search.hpp"

#include <gtest/gtest.h>

#include <set>

#include "tugline/core/error.hpp"

namespace tugline::sweep {
namespace {

Dimension counted(std::string key, Dimension::Kind kind, double low, double high) {
  return {std::move(key), kind, low, high, false, {}, {}};
}

/// layers in 1..3, then one width of 1..4 for each layer that there is; a product of widths of 12 or more is forbidden.
Space layered() {
  std::vector<Dimension> dimensions{counted("layers", Dimension::Kind::integer, 1, 3)};
  for (int i = 0; i < 3; ++i) {
    dimensions.push_back(counted("width" + std::to_string(i), Dimension::Kind::ordinal, 1, 4));
    dimensions.back().parents = {0};
  }
  return Space(dimensions, [](std::size_t d, const Point& point) { return static_cast<double>(d) <= point[0]; },
               [](const Point& point) {
                 double product = 1;
                 for (std::size_t d = 1; d < point.size(); ++d) product *= std::isnan(point[d]) ? 1 : point[d];
                 return product >= 12;
               });
}

TEST(GridSearch, HasEveryAllowedPointOfATreeOnce) {
  const Space space = layered();
  const auto search = make_grid(space);
  std::int64_t expected = 0;
  for (int a = 1; a <= 4; ++a) {
    ++expected;
    for (int b = 1; b <= 4; ++b) {
      expected += a * b < 12;
      for (int c = 1; c <= 4; ++c) expected += a * b * c < 12;
    }
  }
  ASSERT_EQ(grid_size(space), expected);
  std::set<std::vector<double>> seen;
  for (std::int64_t number = 0; number < expected; ++number) {
    Point point = search->suggest(number, {});
    EXPECT_FALSE(space.is_forbidden(point));
    for (std::size_t d = 0; d < point.size(); ++d) {
      EXPECT_EQ(std::isnan(point[d]), !space.is_active(d, point));
      if (std::isnan(point[d])) point[d] = -1;
    }
    seen.insert(point);
  }
  EXPECT_EQ(static_cast<std::int64_t>(seen.size()), expected);
  EXPECT_THROW(search->suggest(expected, {}), ConfigError);
}

TEST(GridSearch, PointIsAFunctionOfTheNumberAlone) {
  const Space space({counted("a", Dimension::Kind::integer, 3, 5), counted("b", Dimension::Kind::choice, 0, 3)});
  const auto search = make_grid(space);
  for (const std::int64_t number : {11, 0, 7, 7, 2}) {
    EXPECT_EQ(search->suggest(number, {}), (Point{3.0 + static_cast<double>(number / 4), static_cast<double>(number % 4)})) << number;
  }
}

TEST(GridSearch, NamesTheDimensionThatHasNoGrid) {
  const Space space({counted("data.batch", Dimension::Kind::ordinal, 0, 3), counted("optim.lr", Dimension::Kind::real, 0, 1)});
  try {
    make_grid(space);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("optim.lr"), std::string::npos) << error.what();
  }
}

TEST(GridSearch, NothingAllowedIsAnEmptyGrid) {
  const Space space({counted("a", Dimension::Kind::integer, 0, 9)}, {}, [](const Point&) { return true; });
  EXPECT_EQ(grid_size(space), 0);
  EXPECT_THROW(make_grid(space)->suggest(0, {}), ConfigError);
}

}  // namespace
}  // namespace tugline::sweep
