// SPDX-License-Identifier: Apache-2.0
// Asks LibTorch through its hooks, which need no CUDA header: one object serves the builds with CUDA and without.
#include "tugline/core/device.hpp"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

constexpr std::string_view kCuda = "cuda";

/// The number in "cuda:1"; -1 when there is none.
int index_in(std::string_view name) {
  const std::string_view digits = name.substr(std::min(name.size(), kCuda.size() + 1));
  int index = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  const bool whole = error == std::errc() && end == digits.data() + digits.size();
  return whole && name.starts_with("cuda:") ? index : -1;
}

/// A device of another kind that something in this process provides.
std::optional<at::Device> other_device(const std::string& name) {
  try {
    const at::Device device(name);
    const bool there = !device.is_cuda() && at::accelerator::isAccelerator(device.type()) && c10::impl::hasDeviceGuardImpl(device.type());
    return there ? std::optional<at::Device>({device.type(), std::max<at::DeviceIndex>(device.index(), 0)}) : std::nullopt;
  } catch (const c10::Error&) {   // no name that LibTorch knows
    return std::nullopt;
  }
}

std::string visible_devices() {
  const char* text = std::getenv("CUDA_VISIBLE_DEVICES");
  return text == nullptr ? "" : fmt::format("; CUDA_VISIBLE_DEVICES is '{}'", text);
}

std::string devices_text(int count) {
  return count == 1 ? "1 GPU, cuda:0" : fmt::format("{} GPUs, cuda:0 to cuda:{}", count, count - 1);
}

}  // namespace

DeviceFacts device_facts() {
  const at::CUDAHooksInterface& hooks = at::detail::getCUDAHooks();
  DeviceFacts facts{.driver = gpu_driver()};
  if (!hooks.hasCUDART()) return facts;
  if (auto* const version = reinterpret_cast<int (*)(int*)>(::dlsym(RTLD_DEFAULT, "ncclGetVersion"))) version(&facts.nccl);
  facts.built_for = static_cast<int>(hooks.versionCUDART());
  // A driver that shows no GPU makes LibTorch warn, and is told of here already.
  if (!facts.driver.gpus.empty()) facts.usable = hooks.getNumGPUs();
  return facts;
}

std::string why_no_device(const DeviceFacts& facts) {
  const GpuDriver& driver = facts.driver;
  if (facts.usable > 0) return "";
  if (facts.built_for == 0)
    return "no device: this build of Tugline is for CPUs only (cmake --preset cuda makes one that uses GPUs)";
  if (!driver.present) return "no device: this machine has no NVIDIA driver (libcuda.so.1); install it, or use the cpu";
  if (driver.gpus.empty())
    return fmt::format("no device: the NVIDIA driver shows no GPU ({}{})", driver.trouble, visible_devices());
  if (driver.cuda_version < facts.built_for)
    return fmt::format("no device: the NVIDIA driver runs CUDA {} and this build needs {}; install a newer driver",
                       cuda_version_text(driver.cuda_version), cuda_version_text(facts.built_for));
  return fmt::format("no device: LibTorch cannot use the {} that the driver shows; its warning above says why",
                     devices_text(static_cast<int>(driver.gpus.size())));
}

at::Device device_from(const std::string& name, int local_rank) {
  return device_from(name, local_rank, name == "cpu" ? DeviceFacts{} : device_facts());
}

at::Device device_from(const std::string& name, int local_rank, const DeviceFacts& facts) {
  if (name == "cpu") return at::kCPU;
  if (const auto other = other_device(name)) return *other;
  const bool any = name == kCuda;
  const int named = any ? 0 : index_in(name);
  if (named < 0) throw ConfigError(fmt::format("'{}' is no device: say cpu, cuda, or one GPU as in cuda:0", name));
  if (const std::string why = why_no_device(facts); !why.empty()) throw ConfigError(why);
  if (named >= facts.usable) throw ConfigError(fmt::format("no device: {} is not among {}", name, devices_text(facts.usable)));
  const int index = any ? local_rank % facts.usable : named;
  return {at::kCUDA, static_cast<at::DeviceIndex>(index)};
}

void allow_tf32(bool allowed) {
  at::globalContext().setAllowTF32CuBLAS(allowed);
  at::globalContext().setAllowTF32CuDNN(allowed);
}

}  // namespace tugline
