// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/gpu_driver.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <utility>

namespace tugline {
namespace {

/// The part of the driver's C interface that is used here. All functions return 0 when they did what they were asked to.
class DriverLibrary {
 public:
  /// Stays loaded: LibTorch's CUDA half uses the same one.
  explicit DriverLibrary(const std::string& name) : handle_(::dlopen(name.c_str(), RTLD_LAZY | RTLD_LOCAL)) {
    load(init, "cuInit");
    load(version, "cuDriverGetVersion");
    load(count, "cuDeviceGetCount");
    load(device, "cuDeviceGet");
    load(device_name, "cuDeviceGetName");
    load(device_memory, "cuDeviceTotalMem_v2");
    load(error_text, "cuGetErrorString");
    const bool needed = complete_;   // an older driver may lack what follows
    load(pci_bus, "cuDeviceGetPCIBusId");
    load(can_access, "cuDeviceCanAccessPeer");
    load(link_attribute, "cuDeviceGetP2PAttribute");
    tells_topology_ = std::exchange(complete_, needed) && needed;
  }
  bool tells_topology() const { return tells_topology_; }
  bool complete() const { return complete_; }

  int (*init)(unsigned flags) = nullptr;
  int (*version)(int* version) = nullptr;
  int (*count)(int* count) = nullptr;
  int (*device)(int* device, int index) = nullptr;
  int (*device_name)(char* name, int size, int device) = nullptr;
  int (*device_memory)(std::size_t* bytes, int device) = nullptr;
  int (*error_text)(int error, const char** text) = nullptr;
  int (*pci_bus)(char* text, int size, int device) = nullptr;
  int (*can_access)(int* can, int device, int peer) = nullptr;
  int (*link_attribute)(int* value, int attribute, int device, int peer) = nullptr;

 private:
  template <class Function>
  void load(Function*& function, const char* name) {
    if (handle_ != nullptr) function = reinterpret_cast<Function*>(::dlsym(handle_, name));
    complete_ = complete_ && function != nullptr;
  }

  void* handle_;
  bool complete_ = true, tells_topology_ = false;
};

std::string words_for(const DriverLibrary& driver, int error) {
  const char* text = nullptr;
  return driver.error_text(error, &text) == 0 && text != nullptr ? text : fmt::format("error {}", error);
}

/// Adds a GPU; returns the driver's error.
int read_gpu(const DriverLibrary& driver, int index, std::vector<Gpu>& gpus) {
  int device = 0;
  std::size_t bytes = 0;
  std::array<char, 256> name{};
  if (const int error = driver.device(&device, index); error != 0) return error;
  if (const int error = driver.device_name(name.data(), static_cast<int>(name.size()) - 1, device); error != 0) return error;
  if (const int error = driver.device_memory(&bytes, device); error != 0) return error;
  gpus.push_back({name.data(), static_cast<std::int64_t>(bytes)});
  std::array<char, 32> bus{};
  if (driver.tells_topology() && driver.pci_bus(bus.data(), static_cast<int>(bus.size()) - 1, device) == 0) gpus.back().pci_bus = bus.data();
  return 0;
}

PeerLink link_between(const DriverLibrary& driver, int index, int peer) {
  constexpr int kNativeAtomics = 3;   // CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED
  int device = 0, other = 0, can = 0, atomics = 0;
  if (index == peer || driver.device(&device, index) != 0 || driver.device(&other, peer) != 0) return PeerLink::none;
  if (driver.can_access(&can, device, other) != 0 || can == 0) return PeerLink::none;
  return driver.link_attribute(&atomics, kNativeAtomics, device, other) == 0 && atomics != 0 ? PeerLink::nvlink : PeerLink::pcie;
}

}  // namespace

GpuDriver gpu_driver(const std::string& library) {
  const DriverLibrary driver(library);
  GpuDriver facts{.present = driver.complete()};
  if (!facts.present) return facts;
  driver.version(&facts.cuda_version);   // works before cuInit; 0 when not
  int count = 0;
  int error = driver.init(0);
  if (error == 0) error = driver.count(&count);
  for (int index = 0; error == 0 && index < count; ++index) error = read_gpu(driver, index, facts.gpus);
  if (error != 0) facts.gpus.clear();
  for (int index = 0; driver.tells_topology() && index < static_cast<int>(facts.gpus.size()); ++index) {
    facts.links.emplace_back();
    for (int peer = 0; peer < count; ++peer) facts.links.back().push_back(link_between(driver, index, peer));
  }
  if (facts.gpus.empty()) facts.trouble = error == 0 ? "it counts none" : words_for(driver, error);
  return facts;
}

std::string cuda_version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

}  // namespace tugline
