// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <string>

#include "tugline/core/gpu_driver.hpp"

namespace tugline {

/// What this process can compute on beside its CPU.
struct DeviceFacts {
  int built_for = 0;  ///< the CUDA that this build is linked with: 13000 for 13.0; 0: it is for CPUs only
  int usable = 0;     ///< GPUs that LibTorch can use
  GpuDriver driver;
};

/// Looks at the build, the driver and the GPUs; no GPU gets a context. Never throws.
DeviceFacts device_facts();

/// Empty when there is a GPU to use; else one sentence, "no device: ...", that says why not and what to do.
std::string why_no_device(const DeviceFacts& facts);

/// The device that `name` means for one rank: "cpu"; "cuda", the GPU with the number of the rank on its host; "cuda:1", that one,
/// which several ranks may share. Throws ConfigError in one sentence when it is no name of a device, or there is no such device.
at::Device device_from(const std::string& name, int local_rank);
/// The same by given facts.
at::Device device_from(const std::string& name, int local_rank, const DeviceFacts& facts);

}  // namespace tugline
