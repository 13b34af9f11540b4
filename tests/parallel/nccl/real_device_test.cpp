// SPDX-License-Identifier: Apache-2.0
// What every backend promises, of the devices of this machine, over the real CUDA and NCCL: a device for each rank. Skipped, with a line
// that says why, where there are fewer.
#include <gtest/gtest.h>

#include <iostream>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/parallel/nccl/device_map.hpp"
#include "tugline/parallel/nccl/nccl_communicator.hpp"
#include "tugline/parallel/nccl/staged_communicator.hpp"
#include "tugline/tests/parallel/nccl/on_device.hpp"
#include "tugline/tests/support/mpi_world.hpp"

namespace tugline {
namespace {

/// Why these ranks cannot have a device each; nothing when they can. Collective.
std::optional<std::string> why_not_here(World& world) {
  std::string why;
  try {
    const int devices = make_cuda_device_api()->device_count();
    if (devices < world.local_size()) why = fmt::format("no device for each of {} ranks: this host has {}", world.local_size(), devices);
  } catch (const CommError& error) {
    why = error.what();
  }
  for (const std::string& each : world.control().all_gather(why)) {
    if (!each.empty()) return each;
  }
  return std::nullopt;
}

class OrNone final : public testing::Environment {
  void SetUp() override {
    int argc = 0;
    char** argv = nullptr;
    World world(argc, argv, "mpi");
    const auto why = why_not_here(world);
    if (!why) return;
    ASSERT_TRUE(why->starts_with("no device")) << *why;
    if (world.rank() == 0) std::cout << "skipped: " << *why << std::endl;
    GTEST_SKIP() << *why;
  }
};
const testing::Environment* const kOrNone = testing::AddGlobalTestEnvironment(new OrNone);

class RealDevice : public MpiWorldTest, public testing::WithParamInterface<ConformanceCase> {
 protected:
  void SetUp() override {
    api_ = make_cuda_device_api();
    device_ = choose_device(world_, *api_).device;
    current_stream_ = stream_of_each_thread(api_, device_);
  }
  void holds(std::unique_ptr<Communicator> of_devices) {
    OnDevice communicator(std::move(of_devices), api_, current_stream_);
    GetParam().run(communicator);
  }

  std::shared_ptr<DeviceApi> api_;
  int device_ = 0;
  CurrentStream current_stream_;
};

std::string name_of_case(const testing::TestParamInfo<ConformanceCase>& info) { return info.param.name; }

class RealNccl : public RealDevice {};
INSTANTIATE_TEST_SUITE_P(, RealNccl, testing::ValuesIn(conformance_cases_of_nccl()), name_of_case);
TEST_P(RealNccl, Holds) {
  holds(make_nccl_communicator(world_.control(), api_, {.device = device_, .current_stream = current_stream_}));
}

class RealStaged : public RealDevice {};
INSTANTIATE_TEST_SUITE_P(, RealStaged, testing::ValuesIn(conformance_cases()), name_of_case);
TEST_P(RealStaged, Holds) {
  const StagedOptions options{device_, current_stream_, 100'000};   // several segments
  holds(std::make_unique<StagedCommunicator>(world_.communicator().duplicate(), api_, options));
}

}  // namespace
}  // namespace tugline
