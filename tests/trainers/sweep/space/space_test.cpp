// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/space/space.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/space/sweep_config.hpp"

namespace tugline::sweep {
namespace {

constexpr const char* kTree = R"(
space:
  momentum:   {float: [0, 1], when: "kind == a"}
  kind:       {choice: [a, b, c]}
  "width[i]": {int: [1, 8], for: "i < depth"}
  depth:      {int: [1, 4], when: "kind != c"}
  "op[i]":    {choice: [conv, pool], for: "i < 2"}
  "size[i]":  {ordinal: [1, 3, 5], for: "i < 2", when: "op[i] == conv and depth > 1"}
  rate:       {float: [1e-4, 1], log: true}
)";

constexpr int kDraws = 10'000;

class Drawn {
 public:
  Drawn(const Space& space, Point point) : space_(space), point_(std::move(point)) {}
  double operator[](const std::string& key) const {
    for (std::size_t d = 0; d < space_.size(); ++d) {
      if (space_.dimensions()[d].key == key) return point_[d];
    }
    throw Error("no " + key);
  }
  bool has(const std::string& key) const { return !std::isnan((*this)[key]); }

 private:
  const Space& space_;
  const Point point_;
};

TEST(Space, ConditionsDecideWhatIsActive) {
  const SweepConfig sweep = parse_sweep(kTree, "s.yaml");
  for (int number = 0; number < kDraws; ++number) {
    const Drawn drawn(sweep.space, sweep.space.draw(3, number));
    ASSERT_EQ(drawn.has("momentum"), drawn["kind"] == 0);
    ASSERT_EQ(drawn.has("depth"), drawn["kind"] != 2);
    for (int i = 0; i < 4; ++i) ASSERT_EQ(drawn.has("width[" + std::to_string(i) + "]"), drawn["depth"] > i);   // not when it is NaN
    for (const std::string i : {"[0]", "[1]"}) ASSERT_EQ(drawn.has("size" + i), drawn["op" + i] == 0 && drawn["depth"] > 1);
    ASSERT_TRUE(drawn.has("rate") && drawn.has("op[0]"));
  }
}

// Every value is as likely as another, whatever else is active: no count is further than five standard deviations from its mean.
TEST(Space, DrawsAreUniform) {
  const SweepConfig sweep = parse_sweep(kTree, "s.yaml");
  std::map<std::string, std::map<double, int>> counts;
  std::map<std::string, int> totals;
  for (int number = 0; number < kDraws; ++number) {
    const Point point = sweep.space.draw(3, number);
    for (std::size_t d = 0; d < point.size(); ++d) {
      const Dimension& dimension = sweep.space.dimensions()[d];
      if (std::isnan(point[d])) continue;
      const bool real = dimension.kind == Dimension::Kind::real;
      ++counts[dimension.key][real ? std::floor(10 * to_unit(dimension, point[d])) : point[d]];
      ++totals[dimension.key];
    }
  }
  for (const Dimension& dimension : sweep.space.dimensions()) {
    const auto cells = dimension.levels() > 0 ? static_cast<double>(dimension.levels()) : 10.0;
    const double total = totals[dimension.key];
    EXPECT_EQ(counts[dimension.key].size(), cells) << dimension.key;
    EXPECT_GT(total, 800) << dimension.key;
    for (const auto& [value, count] : counts[dimension.key]) {
      EXPECT_NEAR(count, total / cells, 5 * std::sqrt(total / cells * (1 - 1 / cells))) << dimension.key << " = " << value;
    }
  }
}

TEST(Space, WholeNumbersComeBackFromTheirPlace) {
  const SweepConfig sweep =
      parse_sweep("space: {a: {int: [1, 700], log: true}, b: {int: [-9, 9]}, c: {ordinal: [1, 2, 5]}, d: {int: [4, 4]}}", "s");
  for (const Dimension& dimension : sweep.space.dimensions()) {
    for (double value = dimension.low; value <= dimension.high; ++value) EXPECT_EQ(from_unit(dimension, to_unit(dimension, value)), value);
    EXPECT_EQ(from_unit(dimension, -1), dimension.low);
    EXPECT_EQ(from_unit(dimension, 2), dimension.high);
  }
}

TEST(Space, WhatIsForbiddenIsDrawnAgain) {
  const SweepConfig sweep = parse_sweep(std::string(kTree) + "forbid: ['rate > 0.1', 'kind == a and depth in [2, 4]']", "s.yaml");
  int again = 0;
  for (int number = 0; number < kDraws; ++number) {
    const Point point = draw_allowed(sweep.space, 5, number);
    const Drawn drawn(sweep.space, point);
    ASSERT_LE(drawn["rate"], 0.1);
    ASSERT_FALSE(drawn["kind"] == 0 && (drawn["depth"] == 2 || drawn["depth"] == 4));
    const Point first = sweep.space.draw(5, number);
    again += sweep.space.is_forbidden(first);
    ASSERT_TRUE(sweep.space.is_forbidden(first) || drawn["rate"] == Drawn(sweep.space, first)["rate"]);
  }
  EXPECT_NEAR(again / double{kDraws}, 0.25 + 0.75 / 6, 0.02);
}

TEST(Space, ForbidThatLeavesNothingIsTold) {
  const SweepConfig sweep = parse_sweep("space: {x: {float: [0, 1]}}\nforbid: [x >= 0]", "s.yaml");
  try {
    draw_allowed(sweep.space, 1, 0);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(), "forbid leaves nothing: all of 1000 points drawn at random are forbidden");
  }
}

}  // namespace
}  // namespace tugline::sweep
