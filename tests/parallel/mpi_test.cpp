// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "tugline/parallel/world.hpp"
#include "tugline/tests/parallel/conformance.hpp"
#include "tugline/tests/parallel/mismatches.hpp"
#include "tugline/tests/support/mpi_world.hpp"

namespace tugline {
namespace {

int g_argc = 0;
char** g_argv = nullptr;

class MpiConformance : public MpiWorldTest, public testing::WithParamInterface<ConformanceCase> {};
INSTANTIATE_TEST_SUITE_P(, MpiConformance, testing::ValuesIn(conformance_cases()), [](const auto& info) { return info.param.name; });

TEST_P(MpiConformance, Holds) {
  GetParam().run(world_.communicator());
  GetParam().run(world_.control());
}

/// The same in debug mode.
TEST_P(MpiConformance, HoldsWhenChecked) {
  world_.debug_collectives();
  GetParam().run(world_.communicator());
  GetParam().run(world_.control());
}

class MpiMismatch : public MpiWorldTest, public testing::WithParamInterface<Mismatch> {};
INSTANTIATE_TEST_SUITE_P(, MpiMismatch, testing::ValuesIn(mismatches()), [](const auto& info) { return info.param.name; });

TEST_P(MpiMismatch, IsToldToAll) {
  if (alone()) GTEST_SKIP() << "one rank matches itself";
  world_.debug_collectives();
  expect_told(GetParam(), world_.communicator(), world_.control());
}

TEST(MpiWorld, JoinsAnMpiThatRunsAlready) {
  for (int i = 0; i < 2; ++i) {   // the main of this program started MPI, and ends it
    World world(g_argc, g_argv, "mpi");
    EXPECT_EQ(world.hosts().size(), static_cast<std::size_t>(world.size()));
    if (world.num_hosts() == 1) {
      EXPECT_EQ(world.local_size(), world.size());
      EXPECT_EQ(world.local_rank(), world.rank());
    }
    EXPECT_EQ(world.communicator().backend(), "mpi");
    EXPECT_NE(world.description().find("thread level"), std::string::npos) << world.description();
  }
}

std::int64_t available_kib() {
  std::ifstream in("/proc/meminfo");
  std::string word;
  std::int64_t kib = 0;
  while (in >> word && word != "MemAvailable:") {
  }
  in >> kib;
  return kib;
}

/// MPI counts in int; a broadcast of 2 GiB and more must not notice.
TEST(MpiWorld, BroadcastsMoreBytesThanAnIntCounts) {
  World world(g_argc, g_argv, "mpi");
  if (world.size() != 2 || world.control().all_reduce(available_kib(), ReduceOp::min) < (8LL << 20)) {
    GTEST_SKIP() << "needs 2 ranks and 8 GiB of free memory";
  }
  const std::int64_t bytes = (1LL << 31) + 5;
  std::vector<char> data(static_cast<std::size_t>(bytes), static_cast<char>(world.rank()));
  if (world.rank() == 1) data[0] = data[1 << 30] = data.back() = 7;
  world.communicator().broadcast(data.data(), bytes, 1);
  EXPECT_EQ(data[0], 7);
  EXPECT_EQ(data[1], 1);
  EXPECT_EQ(data[1 << 30], 7);
  EXPECT_EQ(data.back(), 7);
}

}  // namespace
}  // namespace tugline
