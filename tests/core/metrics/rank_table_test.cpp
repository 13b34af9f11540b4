// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/rank_table.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <sstream>

namespace tugline {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

/// A step that is as long as its slowest rank is busy.
StepRecord a_step(std::vector<RankStep> ranks) {
  StepRecord record;
  double seconds = 0;
  for (const RankStep& rank : ranks) {
    record.samples += rank.samples;
    seconds = std::max(seconds, rank.busy_seconds());
  }
  record.samples_per_second = static_cast<double>(record.samples) / seconds;
  record.ranks = std::move(ranks);
  return record;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string table_of(const StepRecord& record, int times = 1, std::vector<std::string> hosts = {}) {
  RankTable table(std::move(hosts));
  for (int i = 0; i < times; ++i) table.step(record);
  return table.text();
}

// Rank 1 needs 8 ms for what rank 0 does in 4: rank 0 waits 4 of 8 ms, a quarter of both ranks' time.
const std::vector<RankStep> kHalfSpeed{{32, 0, 0.004, 0.004}, {32, 0, 0.008, 0.004}};

TEST(RankTable, SaysWhoPullsAndWhoDoesNot) {
  EXPECT_EQ(table_of(a_step(kHalfSpeed), 10, {"alpha", "beta"}),
            "  rank  host           share  samples/s  busy ms  wait ms  why\n"
            "     0  alpha      32.0  50%       8000     4.00     4.00\n"
            "     1  beta       32.0  50%       4000     8.00     0.00  stolen CPU\n"
            "  slack rank 1 on beta: the others wait for it; waiting takes 25 % of all ranks' time");
  EXPECT_THAT(table_of(a_step(kHalfSpeed), 10, {"alpha", "alpha"}), Not(HasSubstr("alpha"))) << "one host says nothing";
}

TEST(RankTable, MeansAreOverSteps) {
  RankTable table;
  table.step(a_step({{48, 0.001, 0.003, 0.003}, {16, 0, 0.004, 0.004}}));
  table.step(a_step({{24, 0, 0.002, 0.002}, {8, 0, 0.004, 0.004}}));
  // Rank 0: 72 samples in 6 ms, waits 2 of the two steps' 8 ms. Rank 1: 24 in 8 ms.
  EXPECT_EQ(table.text(),
            "  rank          share  samples/s  busy ms  wait ms  why\n"
            "     0      36.0  75%      12000     3.00     1.00\n"
            "     1      12.0  25%       3000     4.00     0.00  slow core\n"
            "  slack rank 1: the others wait for it; waiting takes 12 % of all ranks' time");
  table.reset();
  table.step(a_step({{1, 0, 1, 1}, {1, 0, 1, 1}}));
  EXPECT_THAT(table.text(), HasSubstr("     1       1.0  50%       1.00     1000     0.00\n")) << "nothing of before";
}

TEST(RankTable, TellsTheCauseApart) {
  const auto why = [](const std::vector<RankStep>& ranks) {
    const std::string row = lines_of(table_of(a_step(ranks))).at(2);   // of rank 1
    return row.substr(std::min(row.size(), row.find_last_of("0123456789") + 1));
  };
  EXPECT_EQ(why({{32, 0, 0.004, 0.004}, {32, 0.004, 0.004, 0.004}}), "  data");
  EXPECT_EQ(why({{32, 0.004, 0.004, 0.004}, {32, 0.008, 0.008, 0.008}}), "  slow core") << "all wait for data alike";
  EXPECT_EQ(why({{32, 0, 0.004, 0.004}, {32, 0, 0.008, 0.004}}), "  stolen CPU");
  EXPECT_EQ(why({{32, 0, 0.004, 0.002}, {32, 0, 0.008, 0.004}}), "  slow core") << "all share their cores alike";
  EXPECT_EQ(why({{32, 0, 0.004, 0.0038}, {32, 0, 0.008, 0.0076}}), "  slow core");
  EXPECT_EQ(why({{32, 0, 0.004, 0}, {32, 0, 0.008, 0}}), "  slow core") << "CPU time was not measured";
  EXPECT_EQ(why({{16, 0, 0.004, 0.004}, {32, 0, 0.008, 0.008}}), "  large share");
  EXPECT_EQ(why({{64, 0, 0.008, 0.008}, {32, 0, 0.008, 0.004}}), "  stolen CPU") << "slow, though nobody waits for it any more";
  EXPECT_EQ(why({{32, 0, 0.008, 0.008}, {32, 0, 0.004, 0.004}}), "") << "the other one is slack";
}

TEST(RankTable, NamesNobodyWithoutACause) {
  const std::string alike = table_of(a_step({{32, 0, 0.0098, 0.0098}, {32, 0, 0.01, 0.01}}));
  EXPECT_THAT(alike, EndsWith("\n  all pull alike: waiting takes 1 % of all ranks' time"));

  RankTable turns;   // each is late in every second step
  for (int i = 0; i < 10; ++i) {
    turns.step(a_step({{32, 0, 0.004, 0.004}, {32, 0, 0.005, 0.005}}));
    turns.step(a_step({{32, 0, 0.005, 0.005}, {32, 0, 0.004, 0.004}}));
  }
  EXPECT_TRUE(turns.somebody_waits());
  EXPECT_THAT(turns.text(), EndsWith("\n  no rank is slack for long: waiting takes 10 % of all ranks' time, now for one, now for another"));
}

TEST(RankTable, ASlowLinkIsNoRank) {
  StepRecord record = a_step({{32, 0, 0.006, 0.006}, {32, 0, 0.006, 0.006}});
  record.samples_per_second = 64 / 0.008;
  record.seconds.exposed = 0.002;
  EXPECT_THAT(table_of(record), EndsWith("\n  all pull alike: waiting takes 0 % of all ranks' time\n"
                                         "  communication takes 25 % of a step: the link, not a rank"));
}

TEST(RankTable, OneRankHasNoTable) {
  RankTable table;
  EXPECT_EQ(table.text(), "");
  table.step(a_step({{32, 0, 0.004, 0.004}}));
  EXPECT_EQ(table.text(), "");
  EXPECT_FALSE(table.somebody_waits());
}

TEST(RankTable, OfManyRanksItShowsBothEnds) {
  // Rank r needs 20 ms + r times 0.1 ms but for rank 7, which needs 40 ms; rank 3 has no samples.
  std::vector<RankStep> ranks;
  for (int r = 0; r < 20; ++r) {
    const double seconds = r == 7 ? 0.04 : 0.02 + 0.0001 * r;
    ranks.push_back({r == 3 ? 0 : 10, 0, seconds, seconds});
  }
  std::vector<std::string> first_words;
  for (const std::string& line : lines_of(table_of(a_step(ranks)))) {
    std::istringstream in(line);
    in >> first_words.emplace_back();
  }
  EXPECT_THAT(first_words, testing::ElementsAre("rank", "7", "19", "18", "17", "...", "2", "1", "0", "3", "slack"));
  EXPECT_THAT(table_of(a_step(ranks)), AllOf(HasSubstr("\n   ... 12 more\n"), HasSubstr("slack rank 7:")));
  ranks.resize(16);
  EXPECT_EQ(lines_of(table_of(a_step(ranks))).size(), 18u);
}

}  // namespace
}  // namespace tugline
