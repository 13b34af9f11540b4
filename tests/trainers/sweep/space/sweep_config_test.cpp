// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/space/sweep_config.hpp"

#include <cmath>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tugline/core/error.hpp"

namespace tugline::sweep {
namespace {

using testing::HasSubstr;

// Without a base keys are free names.
constexpr const char* kSweep = R"(
sweep: {name: free, seed: 3}
objectives: [{metric: loss, goal: min}]
space:
  kind:      {choice: [a, b]}
  rate:      {float: [1e-4, 1], log: true}
  momentum:  {float: [0, 1], when: "kind == a"}
  depth:     {int: [1, 3]}
  "width[i]": {int: [8, 64], log: true, for: "i < depth"}
forbid: ["kind == b and depth == 3"]
first: [{kind: b, rate: 0.5}]
search: {method: random}
budget: {trials: 7}
)";

std::string refusal(const std::string& yaml) {
  try {
    parse_sweep(yaml, "s.yaml");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

std::string changed(std::string from, const std::string& to) {
  std::string text = kSweep;
  const auto at = text.find(from);
  if (at == text.npos) throw Error("not there: " + from);
  return text.replace(at, from.size(), to);
}

TEST(SweepConfig, ConditionsDecideWhatIsActive) {
  const SweepConfig sweep = parse_sweep(kSweep, "s.yaml");
  EXPECT_EQ(sweep.trials, 7);
  ASSERT_EQ(sweep.space.size(), 7u);
  std::set<double> depths;
  for (int number = 0; number < 1000; ++number) {
    const Point point = draw_allowed(sweep.space, sweep.seed, number);
    std::map<std::string, double> values;
    for (std::size_t d = 0; d < point.size(); ++d) values[sweep.space.dimensions()[d].key] = point[d];
    EXPECT_EQ(std::isnan(values.at("momentum")), values.at("kind") == 1);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(std::isnan(values.at("width[" + std::to_string(i) + "]")), i >= values.at("depth"));
    EXPECT_FALSE(values.at("kind") == 1 && values.at("depth") == 3);
    depths.insert(values.at("depth"));
  }
  EXPECT_EQ(depths.size(), 3u);
}

TEST(SweepConfig, PointsComeBackToTheBit) {
  const SweepConfig sweep = parse_sweep(kSweep, "s.yaml");
  for (int number = 0; number < 200; ++number) {
    const Point point = draw_allowed(sweep.space, 1, number);
    const Point back = point_from_json(sweep.space, point_to_json(sweep.space, point));
    for (std::size_t d = 0; d < point.size(); ++d) EXPECT_TRUE(point[d] == back[d] || (std::isnan(point[d]) && std::isnan(back[d])));
  }
  const Point first = completed(sweep.space, sweep.first.at(0), sweep.seed, 0);
  EXPECT_EQ(first[0], 1);
}

TEST(SweepConfig, MistakesAreToldWithTheirPlace) {
  EXPECT_THAT(refusal(changed("choice: [a, b]", "chioce: [a, b]")), HasSubstr("s.yaml:5"));
  EXPECT_THAT(refusal(changed("[1e-4, 1], log", "[0, 1], log")), HasSubstr("s.yaml:6"));
  EXPECT_THAT(refusal(changed("kind == a", "kind == c")), HasSubstr("s.yaml:7"));
  EXPECT_THAT(refusal(changed("kind == a", "kin == a")), HasSubstr("s.yaml:7"));
  EXPECT_THAT(refusal(changed("[8, 64]", "[64, 8]")), HasSubstr("s.yaml:9"));
  EXPECT_THAT(refusal(changed("method: random", "method: rnadom")), HasSubstr("random"));
  EXPECT_THAT(refusal(changed("trials: 7", "trials: 0")), HasSubstr("s.yaml:13"));
  EXPECT_EQ(refusal(kSweep), "accepted");
}

}  // namespace
}  // namespace tugline::sweep
