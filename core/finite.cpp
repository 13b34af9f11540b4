// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/finite.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace tugline {
namespace {

/// 1 where the exponent is that of infinity and NaN: loops of integers, which the compiler makes into vectors.
std::uint32_t is_special(float value) {
  return static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(value) & 0x7f800000u) == 0x7f800000u);
}

}  // namespace

bool all_finite(const float* data, std::int64_t count) {
  std::uint32_t special = 0;
  for (std::int64_t i = 0; i < count; ++i) special |= is_special(data[i]);
  return special == 0;
}

bool copy_finite(const float* __restrict from, float* __restrict to, std::int64_t count) {
  std::uint32_t special = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    special |= is_special(from[i]);
    to[i] = from[i];
  }
  return special == 0;
}

bool all_finite(const void* data, std::int64_t count, DType dtype) {
  const auto halves_are_finite = [&](std::uint16_t exponent) {
    const auto* bits = static_cast<const std::uint16_t*>(data);
    return std::none_of(bits, bits + count, [&](std::uint16_t b) { return (b & exponent) == exponent; });
  };
  const auto* doubles = static_cast<const double*>(data);
  switch (dtype) {
    case DType::float32: return all_finite(static_cast<const float*>(data), count);
    case DType::float64: return std::all_of(doubles, doubles + count, [](double value) { return std::isfinite(value); });
    case DType::bfloat16: return halves_are_finite(0x7f80);
    case DType::float16: return halves_are_finite(0x7c00);
    default: return true;
  }
}

}  // namespace tugline
