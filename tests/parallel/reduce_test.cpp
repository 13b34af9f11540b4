// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/reduce.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tugline/core/finite.hpp"

namespace tugline {
namespace {

/// Input r is r + 1 + i % 13: sums are closed forms.
class Reduce : public testing::TestWithParam<int> {
 protected:
  std::vector<std::vector<float>> inputs(std::int64_t count) const {
    std::vector<std::vector<float>> result(static_cast<std::size_t>(GetParam()));
    for (std::size_t r = 0; r < result.size(); ++r) {
      for (std::int64_t i = 0; i < count; ++i) result[r].push_back(static_cast<float>(static_cast<std::int64_t>(r) + 1 + i % 13));
    }
    return result;
  }
  static std::vector<const void*> pointers(const std::vector<std::vector<float>>& values) {
    std::vector<const void*> result;
    for (const auto& value : values) result.push_back(value.data());
    return result;
  }
};
INSTANTIATE_TEST_SUITE_P(, Reduce, testing::Values(1, 2, 3, 4, 13));

TEST_P(Reduce, WritesTheSumToEveryPlaceTheInputsAmongThem) {
  const std::int64_t n = GetParam();
  for (const std::int64_t count : {0, 1, 7, 1023, 2048, 2049, 10000}) {
    auto values = inputs(count);
    std::vector<float> apart(static_cast<std::size_t>(count));
    const auto in = pointers(values);
    std::vector<void*> out{apart.data()};
    for (auto& value : values) out.push_back(value.data());
    EXPECT_TRUE(reduce(in, out, count, DType::float32, ReduceOp::sum));
    for (std::int64_t i = 0; i < count; ++i) {
      const auto wanted = static_cast<float>(n * (n + 1) / 2 + n * (i % 13));
      ASSERT_EQ(apart[static_cast<std::size_t>(i)], wanted) << i;
      for (const auto& value : values) ASSERT_EQ(value[static_cast<std::size_t>(i)], wanted) << i;
    }
  }
}

TEST_P(Reduce, FindsWhatIsNotFiniteInInputsAndInSums) {
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    for (const std::size_t at : {0U, 2047U, 2048U, 4999U}) {
      auto values = inputs(5000);
      values.back()[at] = bad;
      const auto in = pointers(values);
      std::vector<float> sum(5000);
      void* const out = sum.data();
      EXPECT_FALSE(reduce(in, std::span(&out, 1), 5000, DType::float32, ReduceOp::sum));
      EXPECT_FALSE(std::isfinite(sum[at]));
      EXPECT_FALSE(all_finite(sum.data(), 5000, DType::float32));
    }
  }
  auto values = inputs(3);
  for (auto& value : values) value[1] = std::numeric_limits<float>::max();
  const auto in = pointers(values);
  std::vector<float> sum(3);
  void* const out = sum.data();
  EXPECT_EQ(reduce(in, std::span(&out, 1), 3, DType::float32, ReduceOp::sum), GetParam() == 1) << "a sum that overflows";
}

TEST(AllFinite, OfASumThatIsFiniteAndCannotBeStored) {
  const std::uint16_t large = 0x78e2;   // 40000 in float16
  const std::array<const void*, 2> in{&large, &large};
  std::uint16_t sum = 0;
  void* const out = &sum;
  EXPECT_FALSE(reduce(in, std::span(&out, 1), 1, DType::float16, ReduceOp::sum));
  EXPECT_EQ(sum, 0x7c00);
}

TEST(AllFinite, KnowsEveryType) {
  const std::vector<double> doubles{1, std::numeric_limits<double>::infinity()};
  EXPECT_FALSE(all_finite(doubles.data(), 2, DType::float64));
  EXPECT_TRUE(all_finite(doubles.data(), 1, DType::float64));
  const std::vector<std::uint16_t> brains{0x3f80, 0x7f7f, 0x7f80}, halves{0x3c00, 0x7bff, 0xfc00};
  EXPECT_TRUE(all_finite(brains.data(), 2, DType::bfloat16));
  EXPECT_FALSE(all_finite(brains.data(), 3, DType::bfloat16));
  EXPECT_TRUE(all_finite(halves.data(), 2, DType::float16));
  EXPECT_FALSE(all_finite(halves.data(), 3, DType::float16));
  const std::vector<std::int64_t> integers{1, -1};
  EXPECT_TRUE(all_finite(integers.data(), 2, DType::int64));
}

}  // namespace
}  // namespace tugline
