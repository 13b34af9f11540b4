// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/device_channel.hpp"

#include <map>
#include <mutex>

#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/error.hpp"
#include "tugline/parallel/nccl/device_map.hpp"
#include "tugline/parallel/nccl/nccl_communicator.hpp"
#include "tugline/parallel/nccl/staged_communicator.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/device_access.hpp"

namespace tugline {
namespace {

struct KnownDevices {
  std::mutex mutex;
  std::map<c10::DeviceType, MakeDeviceAccess> by_type{{c10::DeviceType::CUDA, cuda_access}};
};

KnownDevices& known_devices() {
  static KnownDevices known;
  return known;
}

DeviceAccess access_to(c10::Device device) {
  KnownDevices& known = known_devices();
  const std::lock_guard<std::mutex> lock(known.mutex);
  const auto found = known.by_type.find(device.type());
  if (found == known.by_type.end()) {
    throw ConfigError(fmt::format("train.device: ranks cannot sum gradients on '{}'; use cuda or cpu, or one rank", device.str()));
  }
  return found->second();
}

}  // namespace

void provide_device_access(c10::DeviceType type, MakeDeviceAccess make) {
  KnownDevices& known = known_devices();
  const std::lock_guard<std::mutex> lock(known.mutex);
  known.by_type[type] = make;
}

std::unique_ptr<Communicator> make_device_channel(World& world, const ParallelConfig& config, c10::Device device) {
  if (device.is_cpu()) return nullptr;
  c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
  if (world.size() == 1) return nullptr;
  const auto [api, current_stream] = access_to(device);
  choose_device(world, *api, {.device = device.index()});
  if (config.backend == "mpi") {
    return std::make_unique<StagedCommunicator>(world.communicator().duplicate(), api,
                                                StagedOptions{.device = device.index(), .current_stream = current_stream});
  }
  return make_nccl_communicator(world.control(), api, {.device = device.index(), .current_stream = current_stream});
}

}  // namespace tugline
