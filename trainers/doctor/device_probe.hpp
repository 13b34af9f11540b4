// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tugline {

class DeviceApi;
class World;

/// What one rank's device did while all others did the same. In bytes per second.
struct DeviceRates {
  int rank = 0;
  std::string host;
  std::string device;        ///< "NVIDIA H100 80GB HBM3"
  double to_device = 0;      ///< from pinned memory of the host
  double to_host = 0;
  double all_reduce = 0;     ///< 2 (n - 1) / n times the bytes of one rank, over the seconds of the sum; 0: one rank has nobody to sum with
};

struct DeviceProbePlan {
  std::int64_t bytes = std::int64_t{64} << 20;
  int rounds = 20;           ///< of each kind, after two that do not count; rates are of the median
};

/// Collective; all ranks get the rates of all, in rank order. Takes a device per rank as training does (choose_device) and throws what that and
/// make_nccl_communicator() throw.
std::vector<DeviceRates> probe_devices(World& world, const std::shared_ptr<DeviceApi>& api, const DeviceProbePlan& plan = {});

/// A device that copies at less than half the pace of the fastest is a no.
struct DeviceVerdict {
  std::vector<DeviceRates> ranks;
  bool good = true;
  std::string sentence;
  std::vector<std::string> advice;
};
DeviceVerdict judge_devices(std::vector<DeviceRates> ranks);
std::string device_text(const DeviceVerdict& verdict);
std::string device_json(const DeviceVerdict& verdict);

}  // namespace tugline
