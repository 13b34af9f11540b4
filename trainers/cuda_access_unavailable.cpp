// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/error.hpp"
#include "tugline/trainers/device_access.hpp"

namespace tugline {

/// Each says in one sentence that this build is without CUDA.
DeviceKind cuda_kind() {
  return {[] { return DeviceAccess{make_cuda_device_api(), nullptr}; },
          []() -> std::unique_ptr<DeviceGraph> { throw ConfigError("train.cuda_graphs: this build is without CUDA"); }};
}

}  // namespace tugline
