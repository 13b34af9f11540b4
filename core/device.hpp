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
  int nccl = 0;       ///< NCCL in this process: 22809 for 2.28.9; 0: there is none
  GpuDriver driver;
};

/// Looks at the build, the driver and the GPUs; no GPU gets a context. Never throws.
DeviceFacts device_facts();

/// Empty when there is a GPU to use; else one sentence, "no device: ...", that says why not and what to do.
std::string why_no_device(const DeviceFacts& facts);

/// The device that `name` means for one rank: "cpu"; "cuda", where the GPUs that this process sees go round by the rank's number on its
/// host (a launcher that shows each rank one GPU gives it that one); "cuda:1", that one for every rank; the name of another accelerator of
/// LibTorch's where this process has one. Whether ranks may share one is
/// for those who see them all. Throws ConfigError in one sentence when it is no name of a device, or there is no such device.
at::Device device_from(const std::string& name, int local_rank);
/// The same by given facts.
at::Device device_from(const std::string& name, int local_rank, const DeviceFacts& facts);

/// Whether GPUs may round the factors of float32 products, of matrices and of convolutions, to TF32: 10 bits of mantissa. LibTorch by itself
/// does it in convolutions. For the whole process.
void allow_tf32(bool allowed);

}  // namespace tugline
