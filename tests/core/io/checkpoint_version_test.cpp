// SPDX-License-Identifier: Apache-2.0
// Files that older versions wrote; they stay in fixtures/ and keep loading.
#include <gmock/gmock.h>

#include <filesystem>

#include "tugline/core/io/checkpoint.hpp"

namespace tugline {
namespace {

using testing::HasSubstr;

TEST(CheckpointVersions, One) {
  const Checkpoint checkpoint = read_checkpoint(std::filesystem::path(TUGLINE_FIXTURES) / "version-1.h5");   // of a synthetic run, 2 steps
  EXPECT_THAT(checkpoint.texts.at("progress"), HasSubstr("\"step\":2"));
  EXPECT_THAT(checkpoint.texts.at("config"), HasSubstr("name: version-1"));
  const Array& weight = checkpoint.arrays.at("/parameters/hidden0.weight");
  EXPECT_EQ(weight.dtype, DType::float32);
  EXPECT_THAT(weight.shape, testing::ElementsAre(32, 13));
  EXPECT_EQ(checkpoint.arrays.count("/optimizer/momentum/hidden0.weight") + checkpoint.arrays.count("/optimizer/exp_avg/hidden0.weight"), 1U);
}

TEST(CheckpointVersions, OneInSlices) {
  const auto file = std::filesystem::path(TUGLINE_FIXTURES) / "version-1-set.h5";   // of two hosts, with bfloat16 between them
  verify_checkpoint(file);
  const Checkpoint checkpoint = read_checkpoint(file);
  EXPECT_THAT(checkpoint.texts.at("progress"), HasSubstr("\"step\":2"));
  EXPECT_THAT(checkpoint.arrays.at("/parameters/hidden0.weight").shape, testing::ElementsAre(32, 13));
  EXPECT_THAT(checkpoint.arrays.at("/optimizer/momentum/output.bias").shape, testing::ElementsAre(3));
  EXPECT_THAT(checkpoint.arrays.at("/residuals/1/0/0").shape, testing::ElementsAre(560));
}

}  // namespace
}  // namespace tugline
