// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

#include "tugline/parallel/nccl/nccl_options.hpp"

namespace tugline {

/// Work of a device that it is told once, and then does as often as it is asked for by one call: a CUDA graph. One thread, whose current
/// stream is not the device's default one.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  /// Once. What `work` gives the device is recorded, and not done. It must not wait for the device. Memory that it allocates stays the
  /// graph's. Throws what LibTorch throws where something cannot be recorded; then the graph is of no more use.
  virtual void record(const std::function<void()>& work) = 0;
  /// Has it done, behind what the current stream holds: on the same memory, with random numbers of the default generator as it is now.
  virtual void replay() = 0;
};

/// What communication asks of devices on which LibTorch computes.
struct DeviceAccess {
  std::shared_ptr<DeviceApi> api;
  CurrentStream current_stream;   ///< LibTorch's
};

/// What LibTorch does not say of devices of one type.
struct DeviceKind {
  DeviceAccess (*access)();                    ///< throws CommError in one sentence where there is none
  std::unique_ptr<DeviceGraph> (*make_graph)();   ///< on the current device
};

/// CUDA's. Its graphs need no NCCL. In builds without CUDA both throw.
DeviceKind cuda_kind();

/// Makes devices of `type` known; CUDA's are. For what brings a device of another type into this process, before any rank opens one. Any thread.
void provide_device_kind(c10::DeviceType type, DeviceKind kind);

/// Throws ConfigError where nobody has provided it. Any thread.
DeviceKind kind_of(c10::Device device);

}  // namespace tugline
