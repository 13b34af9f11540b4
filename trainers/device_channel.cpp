// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/device_channel.hpp"

#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/parallel/nccl/device_map.hpp"
#include "tugline/parallel/nccl/nccl_communicator.hpp"
#include "tugline/parallel/nccl/staged_communicator.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {

std::unique_ptr<Communicator> make_device_channel(World& world, const ParallelConfig& config, c10::Device device) {
  if (!device.is_cuda()) return nullptr;
  c10::cuda::set_device(device.index());
  if (world.size() == 1) return nullptr;
  const auto api = make_cuda_device_api();
  choose_device(world, *api, {.device = device.index()});
  const CurrentStream current_stream = [] { return c10::cuda::getCurrentCUDAStream().stream(); };
  if (config.backend == "mpi") {
    return std::make_unique<StagedCommunicator>(world.communicator().duplicate(), api, StagedOptions{.device = device.index(), .current_stream = current_stream});
  }
  return make_nccl_communicator(world.control(), api, {.device = device.index(), .current_stream = current_stream});
}

}  // namespace tugline
