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
  std::map<c10::DeviceType, DeviceKind> by_type{{c10::DeviceType::CUDA, cuda_kind()}};
};

KnownDevices& known_devices() {
  static KnownDevices known;
  return known;
}

}  // namespace

DeviceKind kind_of(c10::Device device) {
  KnownDevices& known = known_devices();
  const std::lock_guard<std::mutex> lock(known.mutex);
  const auto found = known.by_type.find(device.type());
  if (found == known.by_type.end()) {
    throw ConfigError(fmt::format("train.device: ranks cannot sum gradients on '{}', nor record graphs; use cuda or cpu", device.str()));
  }
  return found->second;
}

void provide_device_kind(c10::DeviceType type, DeviceKind kind) {
  KnownDevices& known = known_devices();
  const std::lock_guard<std::mutex> lock(known.mutex);
  known.by_type.insert_or_assign(type, kind);
}

}  // namespace tugline
