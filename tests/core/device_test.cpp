// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/device.hpp"

#include <ATen/Context.h>
#include <gmock/gmock.h>

#include <cstdlib>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

DeviceFacts two_gpus() {
  return {.built_for = 13000, .usable = 2, .driver = {.present = true, .cuda_version = 13000, .gpus = {{"A"}, {"B"}}}};
}

/// What asking for it throws; empty when it throws nothing.
std::string refusal(const std::string& name, int local_rank, const DeviceFacts& facts) {
  try {
    device_from(name, local_rank, facts);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(DeviceFrom, GpusGoRoundUnlessOneIsNamed) {
  EXPECT_EQ(device_from("cpu", 3, {}), at::Device(at::kCPU));
  EXPECT_EQ(device_from("cuda", 0, two_gpus()), at::Device(at::kCUDA, 0));
  EXPECT_EQ(device_from("cuda", 1, two_gpus()), at::Device(at::kCUDA, 1));
  EXPECT_EQ(device_from("cuda", 2, two_gpus()), at::Device(at::kCUDA, 0));
  EXPECT_EQ(device_from("cuda:1", 0, two_gpus()), at::Device(at::kCUDA, 1));
  EXPECT_EQ(device_from("cuda:0", 7, two_gpus()), at::Device(at::kCUDA, 0));
  DeviceFacts one = two_gpus();
  one.usable = 1;
  EXPECT_EQ(device_from("cuda", 5, one), at::Device(at::kCUDA, 0)) << "the launcher may have shown rank 5 its own GPU alone";
}

TEST(DeviceFrom, ThereAreNoMoreThanThereAre) {
  EXPECT_EQ(refusal("cuda:2", 0, two_gpus()), "no device: cuda:2 is not among 2 GPUs, cuda:0 to cuda:1");
  DeviceFacts one = two_gpus();
  one.usable = 1;
  EXPECT_EQ(refusal("cuda:1", 0, one), "no device: cuda:1 is not among 1 GPU, cuda:0");
}

TEST(DeviceFrom, RefusesWhatIsNoName) {
  for (const char* name : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1 ", "cuda1", "cudax1", "CPU", "cuda:99999999999"})
    EXPECT_THAT(refusal(name, 0, two_gpus()), StartsWith("'" + std::string(name) + "' is no device: say cpu, cuda")) << name;
}

TEST(WhyNoDevice, EachReasonHasItsSentence) {
  DeviceFacts facts;
  EXPECT_THAT(refusal("cuda", 0, facts), StartsWith("no device: this build of Tugline is for CPUs only (cmake --preset cuda"));
  facts.built_for = 13000;
  EXPECT_THAT(refusal("cuda:0", 0, facts), StartsWith("no device: this machine has no NVIDIA driver"));
  facts.driver = {.present = true, .cuda_version = 12040, .trouble = "out of luck"};
  ::setenv("CUDA_VISIBLE_DEVICES", "9", 1);
  EXPECT_EQ(refusal("cuda", 0, facts), "no device: the NVIDIA driver shows no GPU (out of luck; CUDA_VISIBLE_DEVICES is '9')");
  ::unsetenv("CUDA_VISIBLE_DEVICES");
  EXPECT_EQ(why_no_device(facts), "no device: the NVIDIA driver shows no GPU (out of luck)");
  facts.driver.gpus = {{"A"}};
  EXPECT_EQ(why_no_device(facts), "no device: the NVIDIA driver runs CUDA 12.4 and this build needs 13.0; install a newer driver");
  facts.driver.cuda_version = 13010;
  EXPECT_THAT(why_no_device(facts), StartsWith("no device: LibTorch cannot use the 1 GPU, cuda:0 that"));
  EXPECT_EQ(why_no_device(two_gpus()), "");
}

TEST(Tf32, IsOfMatricesAndOfConvolutionsOrOfNeither) {
  for (const bool allowed : {true, false}) {
    allow_tf32(allowed);
    EXPECT_EQ(at::globalContext().allowTF32CuBLAS(), allowed);
    EXPECT_EQ(at::globalContext().allowTF32CuDNN(), allowed);
  }
}

TEST(DeviceFacts, KnowThisBuildAndThisMachine) {
  const DeviceFacts facts = device_facts();
  const char* cuda = std::getenv("TUGLINE_TEST_CUDA");   // ctest says which build this is: the object is the same in both
  ASSERT_NE(cuda, nullptr);
  EXPECT_EQ(facts.built_for > 0, std::string(cuda) == "1") << "libtorch_cuda is loaded in the build with CUDA, and only there";
  const std::string why = why_no_device(facts);
  EXPECT_EQ(why.empty(), facts.usable > 0);
  EXPECT_EQ(why.find("for CPUs only") != why.npos, facts.built_for == 0) << why;
  EXPECT_EQ(why.find("no NVIDIA driver") != why.npos, facts.built_for > 0 && !facts.driver.present) << why;
  EXPECT_EQ(device_from("cpu", 0), at::Device(at::kCPU));
  EXPECT_EQ(refusal("cuda", 0, facts), why);
}

}  // namespace
}  // namespace tugline
