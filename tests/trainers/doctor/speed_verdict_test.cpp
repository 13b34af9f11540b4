// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/doctor/speed_verdict.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <boost/json.hpp>

namespace tugline {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

struct Speeds {
  double arithmetic = 1, memory = 1;  // of 20 GFLOP/s and 10 GB/s
  double cpu_share = 1;
};

RoundFacts rounds_at(double per_second, double speed) {
  return {.rounds = 40,
          .median_seconds = 0.05 / speed,
          .best_seconds = 0.048 / speed,
          .p90_seconds = 0.055 / speed,
          .per_second = per_second * speed};
}

SpeedFacts a_rank(int rank, Speeds speeds, const std::string& host = "a") {
  return {.rank = rank,
          .host = host,
          .arithmetic = rounds_at(20e9, speeds.arithmetic),
          .memory = rounds_at(10e9, speeds.memory),
          .cpu_share = speeds.cpu_share};
}

SpeedVerdict judge(const std::vector<Speeds>& team) {
  std::vector<SpeedFacts> ranks;
  for (const Speeds& speeds : team) ranks.push_back(a_rank(static_cast<int>(ranks.size()), speeds));
  return judge_speeds(ranks);
}

std::vector<std::string> whys(const SpeedVerdict& verdict) {
  std::vector<std::string> all;
  for (const SpeedRow& row : verdict.rows) all.push_back(row.why);
  return all;
}

TEST(SpeedVerdict, EqualRanksLoseNothing) {
  const SpeedVerdict verdict = judge({{}, {}, {}});
  EXPECT_TRUE(verdict.good);
  EXPECT_EQ(verdict.lost, 0);
  EXPECT_EQ(verdict.sentence, "all ranks are within 5 %");
  EXPECT_THAT(verdict.advice, IsEmpty());
  EXPECT_THAT(whys(verdict), Each(""));
  EXPECT_DOUBLE_EQ(verdict.rows[2].steadiness, 1.1);
}

TEST(SpeedVerdict, AStragglerCostsAllOthersTheirTime) {
  std::vector<SpeedFacts> ranks{a_rank(0, {}), a_rank(1, {}), a_rank(2, {}), a_rank(3, {.arithmetic = 0.5}, "b")};
  const SpeedVerdict verdict = judge_speeds(ranks);
  EXPECT_FALSE(verdict.good);
  EXPECT_DOUBLE_EQ(verdict.lost, 1 - 4 * 0.5 / 3.5);
  EXPECT_EQ(verdict.sentence,
            "rank 3 on host b runs at 0.50 of the fastest: with equal shares every step waits for it and 43 % of all "
            "ranks' time is lost");
  EXPECT_THAT(verdict.advice, ElementsAre("parallel.balance.mode: adaptive gives each rank its share"));
  EXPECT_THAT(whys(verdict), ElementsAre("", "", "", "slow core"));
  EXPECT_EQ(verdict.rows[3].speed, 0.5);
}

TEST(SpeedVerdict, UpToATenthIsNoNo) {
  EXPECT_EQ(judge({{}, {.arithmetic = 0.95}}).sentence, "all ranks are within 5 %");
  EXPECT_EQ(judge({{}, {.arithmetic = 0.945}}).sentence, "all ranks are within 6 %");
  EXPECT_EQ(judge({{}, {.arithmetic = 0.905}}).sentence, "all ranks are within 10 %");
  EXPECT_TRUE(judge({{}, {.arithmetic = 0.905}}).good);
  EXPECT_FALSE(judge({{}, {.arithmetic = 0.895}}).good);
}

TEST(SpeedVerdict, SeveralStragglers) {
  EXPECT_THAT(judge({{.arithmetic = 0.7}, {}, {.arithmetic = 0.5}, {.arithmetic = 0.6}}).advice,
              ElementsAre("ranks 0,3 are below 0.9 too", HasSubstr("adaptive")));
  EXPECT_THAT(judge({{.arithmetic = 0.7}, {}, {.arithmetic = 0.5}}).advice,
              ElementsAre("rank 0 is below 0.9 too", HasSubstr("adaptive")));
}

TEST(SpeedVerdict, StolenTimeIsNamedBeforeTheCore) {
  const SpeedVerdict verdict = judge({{}, {.arithmetic = 0.5, .cpu_share = 0.52}});
  EXPECT_THAT(whys(verdict), ElementsAre("", "stolen CPU"));
  EXPECT_THAT(verdict.advice, ElementsAre(StartsWith("rank 1 does not get a core of its own"), HasSubstr("adaptive")));
}

TEST(SpeedVerdict, ANoOfUnsteadyRanksIsToBeAskedAgain) {
  std::vector<SpeedFacts> ranks{a_rank(0, {}), a_rank(1, {.arithmetic = 0.8})};
  ranks[0].arithmetic.best_seconds *= 0.8;
  EXPECT_THAT(judge_speeds(ranks).advice, ElementsAre(StartsWith("rank 0 changed pace"), HasSubstr("adaptive")));
  ranks[0].cpu_share = 0.8;
  EXPECT_THAT(judge_speeds(ranks).advice, ElementsAre(StartsWith("rank 0 does not get a core"), HasSubstr("adaptive")));
  ranks[1] = a_rank(1, {});
  ranks[0].cpu_share = 1;
  EXPECT_THAT(judge_speeds(ranks).advice, IsEmpty());
}

TEST(SpeedVerdict, RanksThatShareTheirCoresFairlyAreEquals) {
  const SpeedVerdict verdict = judge({{.cpu_share = 0.5}, {.cpu_share = 0.5}});
  EXPECT_TRUE(verdict.good);
  EXPECT_EQ(verdict.sentence, "all ranks are within 5 %");
  EXPECT_THAT(verdict.advice, ElementsAre(StartsWith("ranks 0-1 do not get a core of their own")));
}

TEST(SpeedVerdict, SlowMemoryIsToldAndIsNoNo) {
  const SpeedVerdict verdict = judge({{}, {.memory = 0.7}, {.memory = 0.85}, {.arithmetic = 0.6, .memory = 0.5}});
  EXPECT_THAT(whys(verdict), ElementsAre("", "memory", "", "slow core"));
  EXPECT_DOUBLE_EQ(verdict.rows[1].memory_speed, 0.7);
  const SpeedVerdict good = judge({{}, {.memory = 0.7}});
  EXPECT_TRUE(good.good);
  EXPECT_THAT(good.advice, ElementsAre(StartsWith("rank 1 is as fast as others until")));
}

TEST(SpeedVerdict, OneRankHasNoEquals) {
  const SpeedVerdict verdict = judge({{.arithmetic = 0.3}});
  EXPECT_TRUE(verdict.good);
  EXPECT_EQ(verdict.sentence, "one rank: there is none to compare it with");
  EXPECT_THAT(verdict.advice, IsEmpty());
}

TEST(SpeedReport, ATableAndTheVerdict) {
  std::vector<SpeedFacts> ranks{a_rank(0, {}, "node-a"),
                                a_rank(1, {.arithmetic = 0.5, .memory = 0.9, .cpu_share = 0.51}, "node-b")};
  EXPECT_EQ(speed_text(judge_speeds(ranks)),
            "rank  host    arithmetic GFLOP/s  memory GB/s  speed  p90/median   cpu  why\n"
            "   0  node-a                20.0         10.0   1.00        1.10  1.00\n"
            "   1  node-b                10.0          9.0   0.50        1.10  0.51  stolen CPU\n"
            "rank 1 on host node-b runs at 0.50 of the fastest: with equal shares every step waits for it and 33 % of all "
            "ranks' time is lost\n"
            "  -> rank 1 does not get a core of its own: tugline doctor shows binding, limits and load\n"
            "  -> parallel.balance.mode: adaptive gives each rank its share\n");
}

TEST(SpeedReport, OfManyRanksTheEnds) {
  std::vector<Speeds> team(40);
  for (std::size_t i = 0; i < team.size(); ++i) team[i].arithmetic = 1 - 0.01 * static_cast<double>(i);
  const std::string text = speed_text(judge(team));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1 + 8 + 1 + 4 + 1 + 2);
  EXPECT_THAT(text, HasSubstr("\n  32  a                   13.6         10.0   0.68        1.10  1.00  slow core\n"
                              "      28 more ranks run at 0.69 to 0.96\n"
                              "   3  a                   19.4         10.0   0.97        1.10  1.00\n"));
  EXPECT_LT(text.find("\n  39  a"), text.find("\n  38  a"));
  EXPECT_THAT(text, HasSubstr("ranks 11-38 are below 0.9 too"));

  team.resize(32);
  EXPECT_THAT(speed_text(judge(team)), testing::Not(HasSubstr("more ranks")));
}

TEST(SpeedReport, JsonHasAllRanks) {
  const boost::json::value good = boost::json::parse(speed_json(judge(std::vector<Speeds>(40))));
  EXPECT_EQ(good.at("status").as_string(), "ok");
  EXPECT_EQ(good.at("ranks").as_array().size(), 40u);
  const boost::json::value bad = boost::json::parse(speed_json(judge({{}, {.arithmetic = 0.5, .memory = 0.75}})));
  EXPECT_EQ(bad.at("status").as_string(), "fail");
  EXPECT_DOUBLE_EQ(bad.at("lost").to_number<double>(), 1 - 2 * 0.5 / 1.5);
  EXPECT_EQ(bad.at("advice").as_array().size(), 1u);
  const boost::json::value& slow = bad.at("ranks").as_array().at(1);
  EXPECT_EQ(slow.at("why").as_string(), "slow core");
  EXPECT_DOUBLE_EQ(slow.at("arithmetic").at("gflop_per_s").to_number<double>(), 10);
  EXPECT_DOUBLE_EQ(slow.at("memory").at("relative").to_number<double>(), 0.75);
  EXPECT_EQ(slow.at("memory").at("rounds").to_number<int>(), 40);
}

}  // namespace
}  // namespace tugline
