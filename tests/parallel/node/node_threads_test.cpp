// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <tuple>

#include "tugline/core/error.hpp"
#include "tugline/parallel/node/node_team.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/parallel/node/node_cases.hpp"

namespace tugline {
namespace {

class NodeOfThreads : public testing::TestWithParam<std::tuple<int, NodeCase>> {};
INSTANTIATE_TEST_SUITE_P(, NodeOfThreads, testing::Combine(testing::Values(1, 2, 3, 4, 8, 13), testing::ValuesIn(node_cases())),
                         [](const auto& info) {
                           return std::string(std::get<1>(info.param).name) + "_" + std::to_string(std::get<0>(info.param));
                         });

TEST_P(NodeOfThreads, Holds) {
  const auto& [ranks, node] = GetParam();
  run_thread_team(ranks, [&](std::unique_ptr<Communicator> communicator) { node.run(*communicator); });
}

TEST(Node, NobodyWaitsForARankThatFailed) {
  const auto team = [] {
    run_thread_team(3, [](std::unique_ptr<Communicator> communicator) {
      NodeTeam node(*communicator);
      if (communicator->rank() == 1) throw DataError("rank 1 found no data");
      node.barrier();
    });
  };
  EXPECT_THROW(team(), DataError);
}

TEST(Signals, WaitersSeeTheValueWhetherTheySpinYieldOrSleep) {
  for (const Patience patience : {Patience{1 << 20, 10}, Patience{0, 10}, Patience{0, 0}}) {
    Signal ping, pong;
    std::thread other([&] {
      for (std::uint32_t i = 1; i <= 200; ++i) {
        wait_until(ping, i, patience, [] {});
        raise(pong, i);
      }
    });
    for (std::uint32_t i = 1; i <= 200; ++i) {
      raise(ping, i);
      wait_until(pong, i, patience, [] {});
      EXPECT_EQ(pong.value.load(), i);
    }
    other.join();
  }
}

TEST(Signals, CountThroughTheirWrapAround) {
  Signal signal;
  raise(signal, 0xfffffff0U);
  EXPECT_TRUE(has_reached(signal, 0xfffffff0U));
  EXPECT_FALSE(has_reached(signal, 3));
  raise(signal, 3);
  EXPECT_TRUE(has_reached(signal, 0xffffffffU));
  EXPECT_TRUE(has_reached(signal, 3));
}

TEST(Signals, AWaiterAsksNowAndThenWhetherThereIsHope) {
  Signal signal;
  int asked = 0;
  const auto idle = [&] {
    if (++asked == 3) throw CommError("rank 1 is gone");
  };
  EXPECT_THROW(wait_until(signal, 1, {0, 0}, idle), CommError);
  EXPECT_EQ(asked, 3);
}

}  // namespace
}  // namespace tugline
