// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tugline/core/error.hpp"
#include "tugline/parallel/nccl/device_handles.hpp"
#include "tugline/parallel/nccl/device_map.hpp"
#include "tugline/parallel/nccl/nccl_communicator.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/support/device_double.hpp"

namespace tugline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(DeviceMap, GoesRound) {
  EXPECT_EQ(device_of(0, 4), 0);
  EXPECT_EQ(device_of(3, 4), 3);
  EXPECT_EQ(device_of(4, 4), 0);
  EXPECT_EQ(device_of(7, 1), 0);
}

TEST(DeviceMap, NamesTheTwoThatShare) {
  const std::vector<RankDevice> ranks{
      {"a", 0, "H100", "GPU-1"}, {"a", 1, "H100", "GPU-2"}, {"b", 0, "H100", "GPU-3"}, {"a", 0, "H100", "GPU-2"}};
  EXPECT_THAT(shared_device(ranks).value(),
              AllOf(HasSubstr("ranks 1 and 3"), HasSubstr("H100 (GPU-2) of host a"), HasSubstr("CUDA_VISIBLE_DEVICES")));
  EXPECT_FALSE(shared_device({ranks.begin(), ranks.begin() + 3}).has_value());
}

/// What each rank gets, or is told.
std::vector<std::string> outcomes(int ranks, int devices, const DeviceMapOptions& options) {
  const auto api = std::make_shared<DeviceDouble>(devices);
  std::vector<std::string> texts(static_cast<std::size_t>(ranks));
  run_thread_team(ranks, [&](std::unique_ptr<Communicator> communicator) {
    World world(std::move(communicator));
    auto& text = texts[static_cast<std::size_t>(world.rank())];
    try {
      text = std::to_string(choose_device(world, *api, options).device);
    } catch (const AgreedError& error) {
      text = error.what();
    }
  });
  return texts;
}

TEST(DeviceMap, GivesEachRankItsOwn) {
  EXPECT_THAT(outcomes(3, 4, {}), testing::ElementsAre("0", "1", "2"));
  EXPECT_THAT(outcomes(1, 4, {.device = 3}), testing::ElementsAre("3"));
}

TEST(DeviceMap, TellsAllWhatIsWrong) {
  EXPECT_THAT(outcomes(3, 2, {}), testing::Each(HasSubstr("ranks 0 and 2 would share Double (GPU-00000000)")));
  EXPECT_THAT(outcomes(2, 2, {.device = 1}), testing::Each(HasSubstr("ranks 0 and 1 would share")));
  EXPECT_THAT(outcomes(2, 2, {.device = 2}), testing::Each(HasSubstr("rank 0 is to use device 2")));
  EXPECT_THAT(outcomes(2, 0, {}), testing::Each(testing::StartsWith("no device: ")));
}

/// NCCL refuses it, unless each rank looks like a host of its own.
TEST(DeviceMap, RanksThatShareADevice) {
  for (const bool share : {false, true}) {
    const auto api = std::make_shared<DeviceDouble>(1);
    run_thread_team(2, [&](std::unique_ptr<Communicator> communicator) {
      World world(std::move(communicator));
      NcclOptions options;
      if (share) {
        options.device = choose_device(world, *api, {.share_devices = true}).device;
        const auto nccl = make_nccl_communicator(world.control(), api, options);
        const DeviceMemory memory = make_memory(api, 8);
        const auto work = nccl->start_broadcast(memory.get(), 8, 0);
        while (!work->test()) continue;
      } else {
        EXPECT_THROW(make_nccl_communicator(world.control(), api, options), AgreedError);
      }
    });
    EXPECT_EQ(api->misuses(), std::vector<std::string>{});
  }
}

}  // namespace
}  // namespace tugline
