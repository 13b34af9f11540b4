// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/gpu_driver.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <cstddef>

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
  }
  bool complete() const { return complete_; }

  int (*init)(unsigned flags) = nullptr;
  int (*version)(int* version) = nullptr;
  int (*count)(int* count) = nullptr;
  int (*device)(int* device, int index) = nullptr;
  int (*device_name)(char* name, int size, int device) = nullptr;
  int (*device_memory)(std::size_t* bytes, int device) = nullptr;
  int (*error_text)(int error, const char** text) = nullptr;

 private:
  template <class Function>
  void load(Function*& function, const char* name) {
    if (handle_ != nullptr) function = reinterpret_cast<Function*>(::dlsym(handle_, name));
    complete_ = complete_ && function != nullptr;
  }

  void* handle_;
  bool complete_ = true;
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
  return 0;
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
  if (facts.gpus.empty()) facts.trouble = error == 0 ? "it counts none" : words_for(driver, error);
  return facts;
}

std::string cuda_version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

}  // namespace tugline
