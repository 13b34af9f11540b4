// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/error.hpp"
#include "tugline/parallel/nccl/device_api.hpp"

namespace tugline {

std::shared_ptr<DeviceApi> make_cuda_device_api() { throw CommError("this build has no NCCL; configure with --preset cuda"); }

}  // namespace tugline
