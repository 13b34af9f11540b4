// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/DeviceType.h>

#include <memory>

#include "tugline/parallel/nccl/nccl_options.hpp"

namespace tugline {

/// What communication asks of devices on which LibTorch computes.
struct DeviceAccess {
  std::shared_ptr<DeviceApi> api;
  CurrentStream current_stream;   ///< LibTorch's
};
using MakeDeviceAccess = DeviceAccess (*)();

/// CUDA's. Throws CommError in one sentence where there is none.
DeviceAccess cuda_access();

/// Makes `make` the way to devices of `type`; CUDA's is known. For what brings a device of another type into this process, before any rank
/// opens one. Any thread.
void provide_device_access(c10::DeviceType type, MakeDeviceAccess make);

}  // namespace tugline
