// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tugline/parallel/nccl/device_api.hpp"

namespace tugline {

class World;

/// Where a rank computes.
struct RankDevice {
  std::string host;
  int device = 0;        ///< as the rank counts them
  std::string name;      ///< "NVIDIA H100 80GB HBM3"
  std::string uuid;
};

/// The device of the local_rank-th rank of a host: they go round. A launcher that shows each rank one device only gets that one.
int device_of(int local_rank, int num_devices);

/// The first two ranks with one device, in a sentence that says what to do; nothing when each has its own.
std::optional<std::string> shared_device(const std::vector<RankDevice>& ranks);

struct DeviceMapOptions {
  int device = -1;       ///< -1: by local rank
  /// Experimental, for tests on machines with fewer devices than ranks: several ranks may use one. Each pretends to be a host of its own,
  /// since NCCL refuses two ranks of a host on a device; slow, and not what NCCL is made for. Needs NCCL 2.28.
  bool share_devices = false;
};

/// Picks this rank's device and makes it the calling thread's. Collective over world.control(). All ranks throw the same AgreedError when
/// one has no device ("no device: ...") or when two share one.
RankDevice choose_device(World& world, DeviceApi& api, const DeviceMapOptions& options = {});

}  // namespace tugline
