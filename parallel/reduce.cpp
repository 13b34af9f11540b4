// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/reduce.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <type_traits>
#include <vector>

namespace tugline {
namespace {

struct BFloat16 {
  std::uint16_t bits;
  static float widen(BFloat16 x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }
  static BFloat16 narrow(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};   // stay NaN
    return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
  }
};

/// IEEE 754 binary16: 5 bits of exponent, 10 of fraction.
struct Float16 {
  std::uint16_t bits;
  static float widen(Float16 x) {
    const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
    const std::uint32_t magnitude = x.bits & 0x7fffu;
    if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
    if (magnitude >= 0x0400u) return std::bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
    const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
    return sign != 0 ? -subnormal : subnormal;
  }
  static Float16 narrow(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
    if (magnitude >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};   // rounds to 65536 or more
    if (magnitude >= 0x38800000u) {
      const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
      return {static_cast<std::uint16_t>(sign | ((rounded - (112u << 23)) >> 13))};
    }
    // Adding 0.5 leaves the subnormal's ten bits, rounded to nearest even, at the low end of the fraction.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u))};
  }
};

/// How an element is stored and in what it is added up.
template <typename T>
struct Plain {
  using Stored = T;
  static T widen(T x) { return x; }
  static T narrow(T x) { return x; }
};
template <typename Half>
struct Widened {
  using Stored = Half;
  static float widen(Half x) { return Half::widen(x); }
  static Half narrow(float x) { return Half::narrow(x); }
};

/// Elements that are added up at a time: they stay in the first-level cache, whatever the number of ranks.
constexpr std::int64_t kChunk = 2048;

template <typename Element, typename Op>
bool reduce_as(std::span<const void* const> in, std::span<void* const> out, std::int64_t count, Op op) {
  using Stored = typename Element::Stored;
  std::array<decltype(Element::widen(Stored{})), kChunk> sum;
  bool finite = true;
  for (std::int64_t begin = 0; begin < count; begin += kChunk) {
    const std::int64_t size = std::min(kChunk, count - begin);
    const auto* first = static_cast<const Stored*>(in[0]) + begin;
    for (std::int64_t i = 0; i < size; ++i) sum[static_cast<std::size_t>(i)] = Element::widen(first[i]);
    for (std::size_t r = 1; r < in.size(); ++r) {
      const auto* next = static_cast<const Stored*>(in[r]) + begin;
      for (std::int64_t i = 0; i < size; ++i) {
        auto& value = sum[static_cast<std::size_t>(i)];
        value = op(value, Element::widen(next[i]));
      }
    }
    if constexpr (!std::is_same_v<Stored, typename decltype(sum)::value_type>) {   // what is stored may be infinite where the sum is not
      for (std::int64_t i = 0; i < size; ++i) sum[static_cast<std::size_t>(i)] = Element::widen(Element::narrow(sum[static_cast<std::size_t>(i)]));
    }
    if constexpr (std::is_floating_point_v<typename decltype(sum)::value_type>) {
      finite = std::all_of(sum.begin(), sum.begin() + size, [](auto value) { return std::isfinite(value); }) && finite;
    }
    for (void* const result : out) {
      auto* to = static_cast<Stored*>(result) + begin;
      for (std::int64_t i = 0; i < size; ++i) to[i] = Element::narrow(sum[static_cast<std::size_t>(i)]);
    }
  }
  return finite;
}

/// Two inputs go straight to where their sum belongs: what two ranks of a host do most. Faster than by way of `sum` below, by 10 % in the
/// caches and 40 % beyond them.
[[gnu::always_inline]] inline bool add_two_floats(std::span<const void* const> in, std::span<void* const> out, std::int64_t count) {
  const auto* const first = static_cast<const float*>(in[0]);
  const auto* const second = static_cast<const float*>(in[1]);
  auto* const here = static_cast<float*>(out.front());
  auto* const there = static_cast<float*>(out.back());
  std::uint32_t special = 0;
  // An output may be an input, and then it is the same element.
#if !defined(__clang__)   // which would warn of it, and looks at run time whether they overlap
#pragma GCC ivdep
#endif
  for (std::int64_t i = 0; i < count; ++i) {
    const float sum = first[i] + second[i];
    here[i] = sum;
    there[i] = sum;
    special |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(sum) & 0x7f800000u) == 0x7f800000u);
  }
  return special == 0;
}

/// The case that training lives on, written so that each compiler makes vectors of it: every loop reads or writes one array beside `sum`.
[[gnu::always_inline]] inline bool add_floats(std::span<const void* const> in, std::span<void* const> out, std::int64_t count) {
  if (in.size() == 2 && (out.size() == 1 || out.size() == 2)) return add_two_floats(in, out, count);
  alignas(64) float sum[kChunk];
  std::uint32_t special = 0;   // some exponent is that of infinity and NaN
  for (std::int64_t begin = 0; begin < count; begin += kChunk) {
    const std::int64_t size = std::min(kChunk, count - begin);
    const auto input = [&](std::size_t r) { return static_cast<const float*>(in[r]) + begin; };
    const float* const first = input(0);
    const float* const second = in.size() > 1 ? input(1) : nullptr;
    if (second == nullptr) std::copy_n(first, size, sum);
    for (std::int64_t i = 0; second != nullptr && i < size; ++i) sum[i] = first[i] + second[i];
    for (std::size_t r = 2; r < in.size(); ++r) {
      const float* const next = input(r);
      for (std::int64_t i = 0; i < size; ++i) sum[i] += next[i];
    }
    for (std::int64_t i = 0; i < size; ++i) {
      special |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(sum[i]) & 0x7f800000u) == 0x7f800000u);
    }
    for (void* const result : out) std::copy_n(sum, size, static_cast<float*>(result) + begin);
  }
  return special == 0;
}

#if defined(__x86_64__)
// Chosen by hand: functions that the loader chooses run before the sanitizers are ready.
[[gnu::target("avx2")]] bool add_floats_avx2(std::span<const void* const> in, std::span<void* const> out, std::int64_t count) {
  return add_floats(in, out, count);
}
bool add_floats_here(std::span<const void* const> in, std::span<void* const> out, std::int64_t count) {
  static const bool avx2 = __builtin_cpu_supports("avx2");
  return avx2 ? add_floats_avx2(in, out, count) : add_floats(in, out, count);
}
#else
bool add_floats_here(std::span<const void* const> in, std::span<void* const> out, std::int64_t count) { return add_floats(in, out, count); }
#endif

template <typename Element>
bool reduce_with(ReduceOp op, std::span<const void* const> in, std::span<void* const> out, std::int64_t count) {
  switch (op) {
    case ReduceOp::sum: return reduce_as<Element>(in, out, count, [](auto a, auto b) -> decltype(a) { return a + b; });
    case ReduceOp::max: return reduce_as<Element>(in, out, count, [](auto a, auto b) { return std::max(a, b); });
    case ReduceOp::min: return reduce_as<Element>(in, out, count, [](auto a, auto b) { return std::min(a, b); });
  }
  return false;
}

}  // namespace

bool reduce(std::span<const void* const> in, std::span<void* const> out, std::int64_t count, DType dtype, ReduceOp op) {
  if (dtype == DType::float32 && op == ReduceOp::sum) return add_floats_here(in, out, count);
  switch (dtype) {
    case DType::float32: return reduce_with<Plain<float>>(op, in, out, count);
    case DType::float64: return reduce_with<Plain<double>>(op, in, out, count);
    case DType::bfloat16: return reduce_with<Widened<BFloat16>>(op, in, out, count);
    case DType::float16: return reduce_with<Widened<Float16>>(op, in, out, count);
    case DType::int64: return reduce_with<Plain<std::int64_t>>(op, in, out, count);
    case DType::int32: return reduce_with<Plain<std::int32_t>>(op, in, out, count);
    case DType::uint8:
    case DType::boolean: return reduce_with<Plain<std::uint8_t>>(op, in, out, count);
  }
  return false;
}

void reduce(std::span<const void* const> in, void* out, std::int64_t count, DType dtype, ReduceOp op) {
  reduce(in, std::span<void* const>(&out, 1), count, dtype, op);
}

bool sum_pairwise(std::span<const void* const> in, std::span<void* const> out, std::int64_t count, DType dtype) {
  if (in.size() <= 2) return reduce(in, out, count, dtype, ReduceOp::sum);
  const auto element = static_cast<std::int64_t>(size_of(dtype));
  std::vector<std::byte> scratch(in.size() / 2 * static_cast<std::size_t>(kChunk * element));
  std::vector<const void*> level;
  std::vector<void*> results;
  bool finite = true;
  for (std::int64_t begin = 0; begin < count; begin += kChunk) {
    const std::int64_t size = std::min(kChunk, count - begin);
    level.clear();
    for (const void* const array : in) level.push_back(static_cast<const std::byte*>(array) + begin * element);
    while (level.size() > 2) {   // pair i goes to place i, which nobody reads after it
      for (std::size_t i = 0; i < level.size() / 2; ++i) {
        void* const place = scratch.data() + i * static_cast<std::size_t>(kChunk * element);
        reduce(std::span(level).subspan(2 * i, 2), place, size, dtype, ReduceOp::sum);
        level[i] = place;
      }
      level.resize(level.size() / 2);
    }
    results.clear();
    for (void* const array : out) results.push_back(static_cast<std::byte*>(array) + begin * element);
    finite = reduce(level, results, size, dtype, ReduceOp::sum) && finite;
  }
  return finite;
}

void round_to_bfloat16(const float* values, float* residual, std::uint16_t* out, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float exact = values[i] + residual[i];
    const BFloat16 rounded = BFloat16::narrow(exact);
    const float left = exact - BFloat16::widen(rounded);
    out[i] = rounded.bits;
    residual[i] = std::isfinite(left) ? left : 0;
  }
}

void add_bfloat16(const std::uint16_t* in, float* values, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) values[i] += BFloat16::widen({in[i]});
}

void to_float32(const std::uint16_t* in, float* out, std::int64_t count, DType dtype) {
  const bool brain = dtype == DType::bfloat16;
  for (std::int64_t i = 0; i < count; ++i) out[i] = brain ? BFloat16::widen({in[i]}) : Float16::widen({in[i]});
}

void from_float32(const float* in, std::uint16_t* out, std::int64_t count, DType dtype) {
  const bool brain = dtype == DType::bfloat16;
  for (std::int64_t i = 0; i < count; ++i) out[i] = brain ? BFloat16::narrow(in[i]).bits : Float16::narrow(in[i]).bits;
}

}  // namespace tugline
