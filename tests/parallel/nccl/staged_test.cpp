// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "tugline/core/error.hpp"
#include "tugline/parallel/nccl/device_handles.hpp"
#include "tugline/parallel/nccl/staged_communicator.hpp"
#include "tugline/tests/parallel/conformance.hpp"
#include "tugline/tests/parallel/nccl/on_device.hpp"

namespace tugline {
namespace {

StagedOptions options_of(const DeviceRank& rank, std::int64_t segment_bytes = 1000) {
  return {rank.options.device, rank.options.current_stream, segment_bytes};
}

class StagedConformance : public testing::TestWithParam<std::tuple<int, ConformanceCase>> {};
INSTANTIATE_TEST_SUITE_P(, StagedConformance, testing::Combine(testing::Values(1, 2, 3, 4), testing::ValuesIn(conformance_cases())),
                         case_and_ranks);

TEST_P(StagedConformance, Holds) {
  const auto& [ranks, conformance] = GetParam();
  run_device_team(std::make_shared<DeviceDouble>(ranks), ranks, [&](DeviceRank& rank) {
    auto staged = std::make_unique<StagedCommunicator>(rank.control.duplicate(), rank.api, options_of(rank, 100'000));
    conformance.run(*staged);   // memory of the host
    OnDevice communicator(std::move(staged), rank.api, rank.options.current_stream);
    conformance.run(communicator);
  });
}

/// More segments than buffers, and a last one that is shorter.
TEST(Staged, KeepsTheOrderOfStreams) {
  constexpr int kRanks = 3, kCount = 1000;
  run_device_team(std::make_shared<DeviceDouble>(kRanks), kRanks, [&](DeviceRank& rank) {
    StagedCommunicator communicator(rank.control.duplicate(), rank.api, options_of(rank));
    const DeviceMemory memory = make_memory(rank.api, kCount * 8);
    auto* const data = static_cast<double*>(memory.get());
    std::fill(data, data + kCount, -1);
    rank.api->wait_at(rank.stream, 1);
    rank.api->launch(rank.stream, [=] { std::fill(data, data + kCount, 1.0); });
    const auto work = communicator.start_all_reduce(data, kCount, DType::float64, ReduceOp::sum);
    EXPECT_FALSE(work->test());
    rank.api->wait_until_quiet();   // what did not wait for the gate would have been sent
    rank.control.barrier();
    rank.api->open(1);
    work->wait();
    double smallest = -1;
    rank.api->launch(rank.stream, [&] { smallest = *std::min_element(data, data + kCount); });
    rank.api->synchronize(rank.stream);
    EXPECT_EQ(smallest, kRanks);
    EXPECT_TRUE(work->test());
  });
}

TEST(Staged, AMessageMayBeginOnADeviceAndEndOnAHost) {
  run_device_team(std::make_shared<DeviceDouble>(2), 2, [&](DeviceRank& rank) {
    StagedCommunicator communicator(rank.control.duplicate(), rank.api, options_of(rank));
    const DeviceMemory memory = make_memory(rank.api, 8);
    auto* const value = static_cast<double*>(memory.get());
    if (rank.options.device == 0) {
      rank.api->launch(rank.stream, [=] { *value = 5; });
      communicator.send(value, 8, 1, 7);
    } else {
      double host = 0;
      communicator.receive(&host, 8, 0, 7);
      EXPECT_EQ(host, 5);
    }
  });
}

TEST(Staged, AFailureOfTheOtherCommunicatorIsThrownNowAndLater) {
  run_device_team(std::make_shared<DeviceDouble>(2), 2, [&](DeviceRank& rank) {
    StagedCommunicator communicator(rank.control.duplicate(), rank.api, options_of(rank));
    const DeviceMemory memory = make_memory(rank.api, 64);
    const auto work = communicator.start_all_reduce(memory.get(), 7 + rank.options.device, DType::float32, ReduceOp::sum);
    const auto later = communicator.start_broadcast(memory.get(), 8, 0);
    EXPECT_THROW(work->wait(), CommError);
    EXPECT_THROW(later->wait(), CommError);
  }, Leaves::what_failed);
}

}  // namespace
}  // namespace tugline
