// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/device_channel.hpp"

#include <c10/core/impl/VirtualGuardImpl.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/parallel/nccl/device_map.hpp"
#include "tugline/parallel/nccl/nccl_communicator.hpp"
#include "tugline/parallel/nccl/staged_communicator.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/device_access.hpp"

namespace tugline {

std::unique_ptr<Communicator> make_device_channel(World& world, const ParallelConfig& config, c10::Device device) {
  if (device.is_cpu()) return nullptr;
  c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
  if (world.size() == 1) return nullptr;
  const DeviceAccess access = kind_of(device).access();
  choose_device(world, *access.api, {.device = device.index()});
  if (config.backend == "mpi") {
    return std::make_unique<StagedCommunicator>(world.communicator().duplicate(), access.api,
                                                StagedOptions{.device = device.index(), .current_stream = access.current_stream});
  }
  return make_nccl_communicator(world.control(), access.api, {.device = device.index(), .current_stream = access.current_stream});
}

}  // namespace tugline
