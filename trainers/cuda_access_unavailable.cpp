// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/device_access.hpp"

namespace tugline {

/// Says in one sentence that this build is without CUDA.
DeviceAccess cuda_access() { return {make_cuda_device_api(), nullptr, nullptr}; }

}  // namespace tugline
