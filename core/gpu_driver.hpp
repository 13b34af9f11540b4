// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tugline {

struct Gpu {
  std::string name;  ///< "NVIDIA H200"
  std::int64_t memory_bytes = 0;
};

/// What the NVIDIA driver says of this machine. No CUDA library is needed to ask, so a build for CPUs can.
struct GpuDriver {
  bool present = false;   ///< its library loads
  int cuda_version = 0;   ///< the newest CUDA that it runs: 13000 for 13.0
  std::vector<Gpu> gpus;  ///< those that this process may use, in CUDA's order: the first is cuda:0
  std::string trouble;    ///< the driver's own words when it is present and shows no GPU
};

/// Loads the driver's library and asks it; no GPU gets a context. Never throws.
GpuDriver gpu_driver(const std::string& library = "libcuda.so.1");

/// "13.0" for 13000.
std::string cuda_version_text(int version);

}  // namespace tugline
