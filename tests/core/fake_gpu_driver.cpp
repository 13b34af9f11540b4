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
int cuDeviceGetPCIBusId(char* text, int size, int device) {
  std::snprintf(text, static_cast<std::size_t>(size), "0000:%02x:00.0", device);
  return 0;
}
/// Neighbours in pairs have a fast link, the first has none to the last.
int cuDeviceCanAccessPeer(int* can, int device, int peer) {
  *can = !((device == 100 && peer == 99 + number("FAKE_GPUS")) || (peer == 100 && device == 99 + number("FAKE_GPUS"))) || number("FAKE_GPUS") == 2;
  return 0;
}
int cuDeviceGetP2PAttribute(int* value, int attribute, int device, int peer) {
  *value = attribute == 3 && device / 2 == peer / 2;
  return 0;
}
int cuGetErrorString(int error, const char** text) {
  *text = "out of luck";
  return error == 3 ? 0 : 1;
}
}
