// SPDX-License-Identifier: Apache-2.0
// What every backend promises, of NCCL's communicator on the double.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <tuple>

#include "tugline/parallel/nccl/nccl_communicator.hpp"
#include "tugline/tests/parallel/conformance.hpp"
#include "tugline/tests/parallel/nccl/on_device.hpp"

namespace tugline {
namespace {

/// What NCCL has not: tags, probes, and sums of 16 bits that are rounded once.
std::vector<ConformanceCase> cases_of_devices() {
  static const std::set<std::string> others{"point_to_point_keeps_order_and_tags_apart", "probe_tells_who_and_how_long",
                                            "halves_accumulate_in_float32"};
  std::vector<ConformanceCase> cases = conformance_cases();
  const auto erased = std::erase_if(cases, [&](const auto& one) { return others.contains(one.name); });
  EXPECT_EQ(erased, others.size());
  return cases;
}

class NcclConformance : public testing::TestWithParam<std::tuple<int, ConformanceCase>> {};
INSTANTIATE_TEST_SUITE_P(, NcclConformance, testing::Combine(testing::Values(1, 2, 3, 4), testing::ValuesIn(cases_of_devices())),
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
