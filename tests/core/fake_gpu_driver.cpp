// SPDX-License-Identifier: Apache-2.0
// The functions of NVIDIA's driver that gpu_driver.cpp uses, for machines without one. FAKE_GPUS=2 counts two GPUs; FAKE_GPU_ERROR=3 makes
// cuInit fail with 3.
#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace {
int number(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? 0 : std::atoi(text);
}
}  // namespace

extern "C" {
int cuInit(unsigned) { return number("FAKE_GPU_ERROR"); }
int cuDriverGetVersion(int* version) {
  *version = 12040;
  return 0;
}
int cuDeviceGetCount(int* count) {
  *count = number("FAKE_GPUS");
  return 0;
}
int cuDeviceGet(int* device, int index) {
  *device = 100 + index;  // a handle is no index
  return 0;
}
int cuDeviceGetName(char* name, int size, int device) {
  std::snprintf(name, static_cast<std::size_t>(size), "Fake %d", device);
  return 0;
}
int cuDeviceTotalMem_v2(std::size_t* bytes, int device) {
  *bytes = static_cast<std::size_t>(device) << 30;
  return 0;
}
int cuGetErrorString(int error, const char** text) {
  *text = "out of luck";
  return error == 3 ? 0 : 1;
}
}
