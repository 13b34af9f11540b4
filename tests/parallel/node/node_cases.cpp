// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/parallel/node/node_cases.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <string>

#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/node/node_team.hpp"

namespace tugline {
namespace {

std::int64_t* integers(std::byte* memory) { return reinterpret_cast<std::int64_t*>(memory); }

void each_rank_has_memory_that_all_can_reach(Communicator& control) {
  NodeTeam team(control);
  constexpr std::int64_t kCount = 5000;   // more than a page
  const std::shared_ptr<void> mine = team.allocate(kCount * sizeof(std::int64_t));
  const auto everywhere = team.everywhere(mine.get());
  ASSERT_EQ(everywhere.size(), static_cast<std::size_t>(control.size()));
  EXPECT_EQ(everywhere[static_cast<std::size_t>(control.rank())], mine.get());
  EXPECT_FALSE(team.is_common(mine.get()));
  for (std::int64_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(static_cast<std::int64_t*>(mine.get())[i], 0) << "zeroed";
    static_cast<std::int64_t*>(mine.get())[i] = 1000 * control.rank() + i;
  }
  team.barrier();
  for (int r = 0; r < control.size(); ++r) {
    const std::int64_t* theirs = integers(everywhere[static_cast<std::size_t>(r)]);
    EXPECT_EQ(theirs[0], 1000 * r);
    EXPECT_EQ(theirs[kCount - 1], 1000 * r + kCount - 1);
  }
  team.barrier();
}

void common_memory_is_one_piece(Communicator& control) {
  NodeTeam team(control);
  const std::shared_ptr<void> common = team.allocate_common(static_cast<std::size_t>(control.size()) * sizeof(std::int64_t));
  EXPECT_TRUE(team.is_common(common.get()));
  auto* values = static_cast<std::int64_t*>(common.get());
  values[control.rank()] = 7 + control.rank();
  team.barrier();
  for (int r = 0; r < control.size(); ++r) EXPECT_EQ(values[r], 7 + r);
  int elsewhere = 0;
  EXPECT_TRUE(team.everywhere(&elsewhere).empty());
  EXPECT_FALSE(team.is_common(&elsewhere));
  team.barrier();
}

void memory_outlives_its_team(Communicator& control) {
  std::shared_ptr<void> mine;
  std::vector<std::byte*> everywhere;
  {
    NodeTeam team(control);
    mine = team.allocate(sizeof(std::int64_t));
    everywhere = team.everywhere(mine.get());
  }
  *static_cast<std::int64_t*>(mine.get()) = control.rank();
  control.barrier();
  for (int r = 0; r < control.size(); ++r) EXPECT_EQ(*integers(everywhere[static_cast<std::size_t>(r)]), r);
  control.barrier();
}

/// Each rank in turn adds to what the rank before left, many times over: a barrier too few shows as a wrong sum.
void barriers_separate(Communicator& control) {
  NodeTeam team(control);
  const std::shared_ptr<void> common = team.allocate_common(2 * sizeof(std::int64_t));
  auto* values = static_cast<std::int64_t*>(common.get());
  constexpr std::int64_t kRounds = 300;
  for (std::int64_t round = 0; round < kRounds; ++round) {
    if (round % control.size() == control.rank()) {
      values[1] = values[0] + round;
      values[0] = values[1];
    }
    team.barrier();
    ASSERT_EQ(values[0], values[1]) << "round " << round;
    team.barrier();
  }
  EXPECT_EQ(values[0], kRounds * (kRounds - 1) / 2);
  team.barrier();
}

/// Not a word of it in /dev/shm, so nothing is left there however a rank ends.
void memory_has_no_name(Communicator& control) {
  NodeTeam team(control);
  const std::shared_ptr<void> mine = team.allocate(1 << 20);
  team.barrier();
  const std::string line = "/memfd:tugline (deleted)";
  std::string maps;
  if (FILE* file = fopen("/proc/self/maps", "r")) {
    char buffer[4096];
    while (const std::size_t read = fread(buffer, 1, sizeof buffer, file)) maps.append(buffer, read);
    fclose(file);
  }
  EXPECT_NE(maps.find(line), std::string::npos);
  EXPECT_EQ(maps.find("/dev/shm/tugline"), std::string::npos);
  team.barrier();
}

}  // namespace

const std::vector<NodeCase>& node_cases() {
  static const std::vector<NodeCase> cases{
      {"each_rank_has_memory_that_all_can_reach", each_rank_has_memory_that_all_can_reach},
      {"common_memory_is_one_piece", common_memory_is_one_piece},
      {"memory_outlives_its_team", memory_outlives_its_team},
      {"barriers_separate", barriers_separate},
      {"memory_has_no_name", memory_has_no_name},
  };
  return cases;
}

}  // namespace tugline
