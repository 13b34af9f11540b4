// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/device_access.hpp"

#include <map>
#include <mutex>

#include <fmt/format.h>

#include "tugline/core/error.hpp"

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

}  // namespace

DeviceAccess access_to(c10::Device device) {
  KnownDevices& known = known_devices();
  const std::lock_guard<std::mutex> lock(known.mutex);
  const auto found = known.by_type.find(device.type());
  if (found == known.by_type.end()) {
    throw ConfigError(fmt::format("train.device: ranks cannot sum gradients on '{}'; use cuda or cpu, or one rank", device.str()));
  }
  return found->second();
}

void provide_device_access(c10::DeviceType type, MakeDeviceAccess make) {
  KnownDevices& known = known_devices();
  const std::lock_guard<std::mutex> lock(known.mutex);
  known.by_type[type] = make;
}

}  // namespace tugline
