// SPDX-License-Identifier: Apache-2.0
// What every backend promises, of NCCL's communicator on the double.
#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "tugline/parallel/nccl/nccl_communicator.hpp"
#include "tugline/tests/parallel/conformance.hpp"
#include "tugline/tests/parallel/nccl/on_device.hpp"

namespace tugline {
namespace {

class NcclConformance : public testing::TestWithParam<std::tuple<int, ConformanceCase>> {};
INSTANTIATE_TEST_SUITE_P(, NcclConformance, testing::Combine(testing::Values(1, 2, 3, 4), testing::ValuesIn(conformance_cases_of_nccl())),
                         case_and_ranks);

TEST_P(NcclConformance, Holds) {
  const auto& [ranks, conformance] = GetParam();
  run_device_team(std::make_shared<DeviceDouble>(ranks), ranks, [&](DeviceRank& rank) {
    OnDevice communicator(make_nccl_communicator(rank.control, rank.api, rank.options), rank.api, rank.options.current_stream);
    conformance.run(communicator);
  });
}

class NcclHostMemory : public testing::TestWithParam<std::tuple<int, ConformanceCase>> {};
INSTANTIATE_TEST_SUITE_P(, NcclHostMemory, testing::Combine(testing::Values(1, 2, 3, 4), testing::ValuesIn(conformance_cases())),
                         case_and_ranks);

/// All of it, and without one launch.
TEST_P(NcclHostMemory, GoesOverTheControlCommunicator) {
  const auto& [ranks, conformance] = GetParam();
  const auto api = std::make_shared<DeviceDouble>(ranks);
  run_device_team(api, ranks, [&](DeviceRank& rank) {
    conformance.run(*make_nccl_communicator(rank.control, rank.api, rank.options));
  });
  EXPECT_EQ(api->launches(), 0);
}

}  // namespace
}  // namespace tugline
