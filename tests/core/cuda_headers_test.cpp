// SPDX-License-Identifier: Apache-2.0
// LibTorch::CUDA is enough to compile and link what includes ATen/cuda and calls CUDA's runtime; no driver is needed to say there is none.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "tugline/core/device.hpp"

namespace tugline {
namespace {

TEST(CudaHeaders, TheRuntimeIsTheOneOfThisBuild) {
  int version = 0;
  ASSERT_EQ(cudaRuntimeGetVersion(&version), cudaSuccess);
  EXPECT_EQ(version / 1000, device_facts().built_for / 1000);
  EXPECT_EQ(version / 1000, CUDART_VERSION / 1000) << "headers of one CUDA, libraries of another";
}

TEST(CudaHeaders, LibTorchCountsAsTheFactsDo) {
  EXPECT_EQ(c10::cuda::device_count(), device_facts().usable);
  EXPECT_EQ(at::cuda::is_available(), device_facts().usable > 0);
}

}  // namespace
}  // namespace tugline
