// SPDX-License-Identifier: Apache-2.0
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include "tugline/core/log.hpp"
#include "tugline/trainers/device_access.hpp"

namespace tugline {
namespace {

class CudaGraph final : public DeviceGraph {
 public:
  ~CudaGraph() override {
    try {
      c10::cuda::device_synchronize();   // it may be under way
    } catch (const std::exception& error) {
      log::warn("a CUDA graph ends while its device does not answer: {}", error.what());
    }
  }
  void record(const std::function<void()>& work) override {
    graph_.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);   // NCCL's thread may ask for events meanwhile
    try {
      work();
    } catch (...) {
      abandon();
      throw;
    }
    graph_.capture_end();
  }
  void replay() override { graph_.replay(); }

 private:
  /// The stream must not go on recording. What was recorded may be in no state to end well.
  void abandon() noexcept {
    try {
      graph_.capture_end();
    } catch (const std::exception&) {   // the error that led here says more
    }
  }
  at::cuda::CUDAGraph graph_;
};

}  // namespace

DeviceKind cuda_kind() {
  return {[] { return DeviceAccess{make_cuda_device_api(), [] { return c10::cuda::getCurrentCUDAStream().stream(); }}; },
          []() -> std::unique_ptr<DeviceGraph> { return std::make_unique<CudaGraph>(); }};
}

}  // namespace tugline
