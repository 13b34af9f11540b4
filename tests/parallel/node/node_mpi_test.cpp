// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <set>

#include "tugline/parallel/node/node_team.hpp"
#include "tugline/tests/parallel/node/node_cases.hpp"
#include "tugline/tests/support/mpi_world.hpp"

namespace tugline {
namespace {

class NodeOfProcesses : public MpiWorldTest, public testing::WithParamInterface<NodeCase> {};
INSTANTIATE_TEST_SUITE_P(, NodeOfProcesses, testing::ValuesIn(node_cases()), [](const auto& info) { return info.param.name; });
TEST_P(NodeOfProcesses, Holds) { GetParam().run(world_.control()); }
TEST_P(NodeOfProcesses, HoldsWhenChecked) {
  world_.debug_collectives();
  GetParam().run(world_.control());
}

/// A limit on file sizes is a small /dev/shm, a full one, or a container's limit, of which a test can make one.
class LastRankMayMakeSmallFilesOnly {
 public:
  explicit LastRankMayMakeSmallFilesOnly(bool last, rlim_t bytes = 1 << 16) {
    getrlimit(RLIMIT_FSIZE, &before_);
    old_ = signal(SIGXFSZ, SIG_IGN);
    const rlimit small{bytes, before_.rlim_max};
    if (last) setrlimit(RLIMIT_FSIZE, &small);
  }
  ~LastRankMayMakeSmallFilesOnly() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, old_);
  }

 private:
  rlimit before_{};
  sighandler_t old_ = SIG_DFL;
};

using NodeMemory = MpiWorldTest;

TEST_F(NodeMemory, ThatOneRankCannotReserveIsRefusedByAllAndTouchesNothing) {
  NodeTeam team(world_);
  {
    const LastRankMayMakeSmallFilesOnly limit(last());
    for (const bool common : {false, true}) {
      if (common && !alone()) continue;   // rank 0 gives it
      std::string text;
      try {
        common ? team.allocate_common(1 << 20) : team.allocate(1 << 20);
      } catch (const NoSharedMemory& error) {
        text = error.what();
      }
      EXPECT_THAT(text, testing::HasSubstr("rank " + std::to_string(world_.size() - 1) + " could not reserve 1048576 bytes"));
      EXPECT_TRUE(same_on_all_ranks(text));
    }
  }
  EXPECT_NE(team.allocate(1 << 20), nullptr) << "and the team goes on";
}

TEST_F(NodeMemory, ThatSignalsNeedIsReservedWithTheTeam) {
  NodeTeam team(world_);
  std::set<Signal*> mine;
  {
    const LastRankMayMakeSmallFilesOnly limit(last(), 1);
    for (std::size_t i = 0; i < NodeTeam::kReadySignals; ++i) {
      const auto signals = team.make_signals();
      mine.insert(signals[static_cast<std::size_t>(team.rank())]);
      EXPECT_EQ(signals[0]->value, 0u);
    }
    EXPECT_EQ(mine.size(), NodeTeam::kReadySignals) << "each one apart from all others";
    EXPECT_THROW(team.make_signals(), NoSharedMemory);
  }
  EXPECT_EQ(team.make_signals().size(), static_cast<std::size_t>(team.size())) << "and the team goes on";
}

}  // namespace
}  // namespace tugline
