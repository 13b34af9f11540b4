// SPDX-License-Identifier: Apache-2.0
#include <c10/cuda/CUDAStream.h>

#include "tugline/trainers/device_access.hpp"

namespace tugline {

DeviceAccess cuda_access() {
  return {make_cuda_device_api(), [] { return c10::cuda::getCurrentCUDAStream().stream(); }};
}

}  // namespace tugline
