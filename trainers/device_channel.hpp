// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include <c10/core/Device.h>

namespace tugline {

class Communicator;
class World;
struct ParallelConfig;

/// What sums gradients in the memory of `device`: NCCL, or with parallel.backend mpi MPI through pinned host memory. Null where nothing is
/// needed for that: on the host, and for one rank. Makes `device` the thread's. Collective. Throws AgreedError when two ranks share a device.
std::unique_ptr<Communicator> make_device_channel(World& world, const ParallelConfig& config, c10::Device device);

}  // namespace tugline
