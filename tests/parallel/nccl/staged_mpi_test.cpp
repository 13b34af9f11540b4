// SPDX-License-Identifier: Apache-2.0
// Device memory over MPI: every process has a double of its own.
#include <gtest/gtest.h>

#include "tugline/parallel/nccl/staged_communicator.hpp"
#include "tugline/tests/parallel/conformance.hpp"
#include "tugline/tests/parallel/nccl/on_device.hpp"
#include "tugline/tests/support/mpi_world.hpp"

namespace tugline {
namespace {

class StagedMpi : public MpiWorldTest, public testing::WithParamInterface<ConformanceCase> {};
INSTANTIATE_TEST_SUITE_P(, StagedMpi, testing::ValuesIn(conformance_cases()), [](const auto& info) { return info.param.name; });

TEST_P(StagedMpi, Holds) {
  const auto api = std::make_shared<DeviceDouble>(1);
  {
    const StagedOptions options{0, stream_of_each_thread(api, 0), 100'000};
    auto staged = std::make_unique<StagedCommunicator>(world_.communicator().duplicate(), api, options);
    OnDevice communicator(std::move(staged), api, options.current_stream);
    GetParam().run(communicator);
  }
  EXPECT_EQ(api->misuses(), std::vector<std::string>{});
  EXPECT_EQ(api->alive(), 0);
}

}  // namespace
}  // namespace tugline
