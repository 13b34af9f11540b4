// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tugline {

struct Gpu {
  std::string name;  ///< "NVIDIA H200"
  std::int64_t memory_bytes = 0;
  std::string pci_bus = {};  ///< "0000:3b:00.0", the same in every process of a host; empty: the driver does not say
};

/// How one GPU reaches another's memory.
enum class PeerLink {
  none,   ///< it does not: data go through the host's memory
  pcie,
  nvlink  ///< a link that does atomic operations by itself
};

/// What the NVIDIA driver says of this machine. No CUDA library is needed to ask, so a build for CPUs can.
struct GpuDriver {
  bool present = false;   ///< its library loads
  int cuda_version = 0;   ///< the newest CUDA that it runs: 13000 for 13.0
  std::vector<Gpu> gpus;  ///< those that this process may use, in CUDA's order: the first is cuda:0
  std::vector<std::vector<PeerLink>> links;   ///< from each GPU to each; empty: the driver does not say
  std::string trouble;    ///< the driver's own words when it is present and shows no GPU
};

/// Loads the driver's library and asks it; no GPU gets a context. Never throws.
GpuDriver gpu_driver(const std::string& library = "libcuda.so.1");

/// "13.0" for 13000.
std::string cuda_version_text(int version);

}  // namespace tugline
