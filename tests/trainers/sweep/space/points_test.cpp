// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/space/points.hpp"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <bit>
#include <cmath>
#include <fstream>

#include "tugline/core/config/load.hpp"
#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/space/sweep_config.hpp"

namespace tugline::sweep {
namespace {

namespace json = boost::json;

SweepConfig sweep() {
  const std::string base = testing::TempDir() + "tugline_points_base.yaml";
  std::ofstream(base) << "seed: 1\n";
  return parse_sweep("sweep: {base: " + base + R"(}
space:
  optim.nesterov: {choice: [true, false], when: "model.hidden[1] > 40"}    # puts hidden[1] before hidden[0]
  "model.hidden[i]": {int: [4, 512], log: true, for: "i < $depth"}
  $depth:         {int: [1, 12]}
  optim.lr:       {float: [1e-9, 10], log: true}
  optim.name:     {choice: [sgd, adamw]}
  optim.momentum: {float: [0, 0.999], when: "optim.name == sgd"}
  model.channels: {choice: [[8], [16, 32]]}
  data.batch:     {ordinal: [16, 32, 64]}
  name:           {choice: ["a b", "it's", 'x,y', "null", 'a\', "\\'", "[1", "", "7", plain]}
)",
                     "s.yaml");
}

std::size_t index_of(const Space& space, const std::string& key) {
  for (std::size_t d = 0; d < space.size(); ++d) {
    if (space.dimensions()[d].key == key) return d;
  }
  throw Error("no " + key);
}

bool same_bits(const Point& a, const Point& b) {
  return std::ranges::equal(a, b, [](double x, double y) { return std::bit_cast<std::uint64_t>(x) == std::bit_cast<std::uint64_t>(y); });
}

TEST(Points, OverridesSayThemToTheBit) {
  const SweepConfig config = sweep();
  const std::vector<std::string> names{"a b", "it's", "x,y", "null", "a\\", "\\'", "[1", "", "7", "plain"};
  for (int number = 0; number < 300; ++number) {
    const Point point = config.space.draw(1, number);
    const auto at = [&](const std::string& key) { return point[index_of(config.space, key)]; };
    std::vector<std::int64_t> hidden;
    for (int i = 0; i < at("$depth"); ++i) hidden.push_back(static_cast<std::int64_t>(at("model.hidden[" + std::to_string(i) + "]")));
    const RunConfig run = parse_config("", "run.yaml", overrides(config.space, point));
    const std::string& name = names[static_cast<std::size_t>(at("name"))];
    EXPECT_EQ(run.model.hidden, hidden);
    EXPECT_EQ(run.optim.lr, at("optim.lr"));
    EXPECT_EQ(run.optim.momentum, std::isnan(at("optim.momentum")) ? RunConfig{}.optim.momentum : at("optim.momentum"));
    EXPECT_EQ(run.model.channels, at("model.channels") == 0 ? std::vector<std::int64_t>{8} : (std::vector<std::int64_t>{16, 32}));
    EXPECT_EQ(run.data.batch, std::int64_t{16} << static_cast<int>(at("data.batch")));
    EXPECT_EQ(run.name, name.empty() ? "run" : name);
  }
}

TEST(Points, ComeBackFromJsonTextToTheBit) {
  const SweepConfig config = sweep();
  for (int number = 0; number < 2000; ++number) {
    const Point point = config.space.draw(2, number);
    const std::string text = json::serialize(point_to_json(config.space, point));
    EXPECT_TRUE(same_bits(point_from_json(config.space, json::parse(text).as_object()), point)) << text;
  }
}

std::string refusal(const Space& space, const char* text) {
  try {
    point_from_json(space, json::parse(text).as_object());
    return "accepted";
  } catch (const ConfigError& error) {
    return error.what();
  }
}

TEST(Points, OfAnotherSpaceAreRefused) {
  const Space space = parse_sweep("space: {a: {choice: [x, y]}, b: {float: [0, 1], when: a == x}, c: {int: [1, 3]}}", "s").space;
  EXPECT_EQ(refusal(space, R"({"a": "x", "b": "0.5", "c": 2})"), "accepted");
  EXPECT_EQ(refusal(space, R"({"a": "x", "c": 2})"), "the point has no b");
  EXPECT_EQ(refusal(space, R"({"a": "y", "b": "0.5", "c": 2})"), "the point has a value, though not active, of b");
  EXPECT_EQ(refusal(space, R"({"a": "z", "b": "0.5", "c": 2})"), "the point's a is not one of the space's values");
  EXPECT_EQ(refusal(space, R"({"a": "x", "b": "1.5", "c": 2})"), "the point's b is not one of the space's values");
  EXPECT_EQ(refusal(space, R"({"a": "x", "b": "0.5s", "c": 2})"), "the point's b is not one of the space's values");
  EXPECT_EQ(refusal(space, R"({"a": "x", "b": 0.5, "c": 2})"), "the point's b is not one of the space's values");
  EXPECT_EQ(refusal(space, R"({"a": "x", "b": "0.5", "c": 4})"), "the point's c is not one of the space's values");
  EXPECT_EQ(refusal(space, R"({"a": "x", "b": "0.5", "c": 2, "d": 1})"), "the point has a key that the space does not have");
}

TEST(Points, OpenValuesAreDrawnAndGivenOnesKept) {
  const std::string space =
      "space: {momentum: {float: [0, 1], when: kind == a}, kind: {choice: [a, b]}, rate: {float: [0, 1]}, n: {int: [1, 2]}}\n";
  const SweepConfig config = parse_sweep(space + "forbid: [rate > 0.5 and n == 1]\nfirst: [{kind: b, rate: 0.7}, {momentum: 0.3}]", "s");
  ASSERT_EQ(config.first.size(), 2u);
  const auto at = [&](const Point& point, const char* key) { return point[index_of(config.space, key)]; };
  EXPECT_EQ(config.first[0][index_of(config.space, "n")], std::nullopt);
  EXPECT_TRUE(std::isnan(config.first[0][index_of(config.space, "momentum")].value()));
  bool varies = false;
  for (int number = 0; number < 100; ++number) {
    const Point first = completed(config.space, config.first[0], 1, number);
    EXPECT_TRUE(at(first, "kind") == 1 && at(first, "rate") == 0.7 && at(first, "n") == 2 && std::isnan(at(first, "momentum")));
    const Point second = completed(config.space, config.first[1], 1, number);
    EXPECT_TRUE(at(second, "kind") == 0 && at(second, "momentum") == 0.3 && !config.space.is_forbidden(second));
    varies = varies || at(second, "rate") != at(completed(config.space, config.first[1], 1, 0), "rate");
  }
  EXPECT_TRUE(varies);
  const SweepConfig nothing = parse_sweep(space + "forbid: [rate > 0.5 and n < 3]\nfirst: [{rate: 0.7}]", "s");
  EXPECT_THROW(completed(nothing.space, nothing.first[0], 1, 0), ConfigError);
}

}  // namespace
}  // namespace tugline::sweep
