// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "tugline/core/error.hpp"
#include "tugline/parallel/nccl/device_api.hpp"

int main() {
  using namespace tugline;
  try {
    const auto api = make_cuda_device_api();
    for (int device = 0; device < api->device_count(); ++device) {
      const DeviceInfo info = api->device_info(device);
      std::printf("device %d: %s, %s, %s, %lld MiB\n", device, info.name.c_str(), info.uuid.c_str(), info.pci.c_str(),
                  static_cast<long long>(info.memory_bytes >> 20));
    }
    std::printf("NCCL %d\n", api->nccl_version());
    return 0;
  } catch (const Error& error) {
    const int code = static_cast<int>(error.exit_code());
    std::printf("%s\nexit code %d\n", error.what(), code);
    return code;
  }
}
