// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <tuple>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/parallel/ring/ring_communicator.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/tests/parallel/conformance.hpp"
#include "tugline/tests/parallel/ring/ring_cases.hpp"

namespace tugline {
namespace {

const auto kRanks = testing::Values(1, 2, 3, 4, 8, 13);
template <typename Info>
std::string name_of(const Info& info) {
  return std::string(std::get<1>(info.param).name) + "_" + std::to_string(std::get<0>(info.param));
}

class RingConformance : public testing::TestWithParam<std::tuple<int, ConformanceCase>> {};
INSTANTIATE_TEST_SUITE_P(, RingConformance, testing::Combine(kRanks, testing::ValuesIn(conformance_cases())),
                         [](const auto& info) { return name_of(info); });
TEST_P(RingConformance, Holds) {
  const auto& [ranks, conformance] = GetParam();
  run_thread_team(ranks, [&](std::unique_ptr<Communicator> communicator) {
    RingCommunicator ring(std::move(communicator), {.segment_bytes = 4096});
    conformance.run(ring);
  });
}

class RingOverThreads : public testing::TestWithParam<std::tuple<int, RingCase>> {};
INSTANTIATE_TEST_SUITE_P(, RingOverThreads, testing::Combine(kRanks, testing::ValuesIn(ring_cases())),
                         [](const auto& info) { return name_of(info); });
TEST_P(RingOverThreads, Holds) {
  const auto& [ranks, ring] = GetParam();
  run_thread_team(ranks, [&](std::unique_ptr<Communicator> communicator) { ring.run(*communicator); });
}

TEST(Ring, WhoWaitsForARankThatFailedIsTold) {
  std::atomic<int> told = 0;
  const auto team = [&] {
    run_thread_team(3, [&](std::unique_ptr<Communicator> communicator) {
      RingCommunicator ring(communicator->duplicate());
      if (communicator->rank() == 1) throw DataError("rank 1 found no data");
      std::vector<float> values(1000, 1);
      try {
        ring.all_reduce(values.data(), 1000, DType::float32);
      } catch (const CommError&) {
        ++told;
        throw;
      }
    });
  };
  EXPECT_THROW(team(), DataError);
  EXPECT_EQ(told, 2);
}

}  // namespace
}  // namespace tugline
