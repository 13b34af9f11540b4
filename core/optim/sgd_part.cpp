// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/optim/sgd_part.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace tugline {
namespace {

constexpr std::size_t kLine = 64;       // bytes of memory that move at once
constexpr std::int64_t kBlock = 1024;   // elements: what is copied is in the first-level cache

template <typename T>
using Arrays = SgdPart::Arrays<T>;

/// The compiler makes a loop of its own of each case.
template <typename T>
[[gnu::always_inline]] inline void step_block(const SgdPart& part, const Arrays<T>& arrays, std::int64_t count) {
  T* const __restrict values = arrays.values;
  T* const __restrict momentum = arrays.momentum;
  T* const __restrict copy = arrays.copy;
  const T* const __restrict gradients = arrays.gradients;
  const auto scale = static_cast<T>(part.scale), decay = static_cast<T>(part.decay), now = static_cast<T>(part.now), carry = static_cast<T>(part.carry),
             keep = static_cast<T>(part.keep), take = static_cast<T>(part.take);
  for (std::int64_t i = 0; i < count; ++i) {
    const T gradient = scale * gradients[i] + decay * values[i];
    T way = now * gradient;
    if (momentum != nullptr) {
      way += carry * momentum[i];
      momentum[i] = keep * momentum[i] + take * gradient;
    }
    values[i] -= way;
    if (copy != nullptr) copy[i] = values[i];
  }
}

#if defined(__x86_64__)
/// What does not come into the caches need not be fetched to be overwritten. Meanwhile as much is fetched of what comes `next`.
template <typename T>
void copy_past_caches(T* to, const T* from, std::size_t bytes, const Arrays<T>& next) {
  if (reinterpret_cast<std::uintptr_t>(to) % kLine != 0 || bytes % kLine != 0) {
    std::memcpy(to, from, bytes);
    return;
  }
  const auto fetch = [](const T* array, std::size_t line) {   // any address will do: fetching never faults
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(array) + line));
  };
  for (std::size_t line = 0; line < bytes; line += kLine) {
    fetch(next.values, line);
    fetch(next.gradients, line);
    if (next.momentum != nullptr) fetch(next.momentum, line);
    const auto* const in = reinterpret_cast<const __m128i*>(reinterpret_cast<const std::byte*>(from) + line);
    auto* const out = reinterpret_cast<__m128i*>(reinterpret_cast<std::byte*>(to) + line);
    for (std::size_t i = 0; i < kLine / sizeof(__m128i); ++i) _mm_stream_si128(out + i, _mm_loadu_si128(in + i));
  }
}
void finish_copies() { _mm_sfence(); }

// Chosen by hand: functions that the loader chooses run before the sanitizers are ready.
template <typename T>
[[gnu::target("avx2")]] void step_block_avx2(const SgdPart& part, const Arrays<T>& arrays, std::int64_t count) {
  step_block(part, arrays, count);
}
template <typename T>
void step_block_here(const SgdPart& part, const Arrays<T>& arrays, std::int64_t count) {
  static const bool avx2 = __builtin_cpu_supports("avx2");
  avx2 ? step_block_avx2(part, arrays, count) : step_block(part, arrays, count);
}
#else
template <typename T>
void copy_past_caches(T* to, const T* from, std::size_t bytes, const Arrays<T>& /*next*/) {
  std::memcpy(to, from, bytes);
}
void finish_copies() {}
template <typename T>
void step_block_here(const SgdPart& part, const Arrays<T>& arrays, std::int64_t count) {
  step_block(part, arrays, count);
}
#endif

template <typename T>
void step_blocks(const SgdPart& part, const Arrays<T>& arrays, std::int64_t count, bool past_caches) {
  if (arrays.copy == nullptr || !past_caches) return step_block_here(part, arrays, count);
  const auto past_line = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(arrays.copy) % kLine / sizeof(T));
  std::int64_t end = past_line == 0 ? 0 : static_cast<std::int64_t>(kLine / sizeof(T)) - past_line;   // of a first block; lines are whole from there on
  for (std::int64_t begin = 0; begin < count; begin = end) {
    end = std::min(count, begin == 0 && end > 0 ? end : begin + kBlock);
    Arrays<T> block = arrays.at(begin);
    T* const copy = std::exchange(block.copy, nullptr);
    step_block_here(part, block, end - begin);
    copy_past_caches(copy, block.values, static_cast<std::size_t>(end - begin) * sizeof(T), arrays.at(end));
  }
  finish_copies();
}

}  // namespace

void SgdPart::step(const Arrays<float>& arrays, std::int64_t count, bool past_caches) const { step_blocks(*this, arrays, count, past_caches); }
void SgdPart::step(const Arrays<double>& arrays, std::int64_t count, bool past_caches) const { step_blocks(*this, arrays, count, past_caches); }

}  // namespace tugline
