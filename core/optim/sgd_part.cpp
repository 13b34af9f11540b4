// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/optim/sgd_part.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace tugline {
namespace {

constexpr std::int64_t kBlock = 1024;   // elements: what is copied is in the first-level cache

/// The compiler makes a loop of its own of each case.
template <typename T>
[[gnu::always_inline]] inline void step_block(const SgdPart& part, T* __restrict values, T* __restrict momentum, const T* __restrict gradients, T* __restrict copy,
                                              std::int64_t count) {
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
/// What does not come into the caches need not be fetched to be overwritten. Meanwhile as much is fetched of each of `next`.
template <typename... Next>
void copy_past_caches(void* to, const void* from, std::size_t bytes, const Next*... next) {
  constexpr std::size_t kLine = 64;
  if (reinterpret_cast<std::uintptr_t>(to) % kLine != 0 || bytes % kLine != 0) {
    std::memcpy(to, from, bytes);
    return;
  }
  for (std::size_t line = 0; line < bytes; line += kLine) {
    (__builtin_prefetch(reinterpret_cast<const std::byte*>(next) + line), ...);   // past the end, or of nothing, it does nothing
    for (std::size_t at = line; at < line + kLine; at += sizeof(__m128i)) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(static_cast<std::byte*>(to) + at), _mm_loadu_si128(reinterpret_cast<const __m128i*>(static_cast<const std::byte*>(from) + at)));
    }
  }
}

// Chosen by hand: functions that the loader chooses run before the sanitizers are ready.
template <typename T>
[[gnu::target("avx2")]] void step_block_avx2(const SgdPart& part, T* values, T* momentum, const T* gradients, T* copy, std::int64_t count) {
  step_block(part, values, momentum, gradients, copy, count);
}
template <typename T>
void step_block_here(const SgdPart& part, T* values, T* momentum, const T* gradients, T* copy, std::int64_t count) {
  static const bool avx2 = __builtin_cpu_supports("avx2");
  avx2 ? step_block_avx2(part, values, momentum, gradients, copy, count) : step_block(part, values, momentum, gradients, copy, count);
}
#else
template <typename... Next>
void copy_past_caches(void* to, const void* from, std::size_t bytes, const Next*... /*next*/) {
  std::memcpy(to, from, bytes);
}
template <typename T>
void step_block_here(const SgdPart& part, T* values, T* momentum, const T* gradients, T* copy, std::int64_t count) {
  step_block(part, values, momentum, gradients, copy, count);
}
#endif

template <typename T>
void step_blocks(const SgdPart& part, T* values, T* momentum, const T* gradients, T* copy, std::int64_t count, bool past_caches) {
  if (copy == nullptr || !past_caches) return step_block_here(part, values, momentum, gradients, copy, count);
  const auto at = [](auto* array, std::int64_t element) { return array == nullptr ? nullptr : array + element; };
  for (std::int64_t begin = 0, end; begin < count; begin = end) {
    end = std::min(count, begin + kBlock);
    step_block_here(part, values + begin, at(momentum, begin), gradients + begin, static_cast<T*>(nullptr), end - begin);
    copy_past_caches(copy + begin, values + begin, static_cast<std::size_t>(end - begin) * sizeof(T), values + end, at(momentum, end), gradients + end);
  }
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace

void SgdPart::step(float* values, float* momentum, const float* gradients, float* copy, std::int64_t count, bool past_caches) const {
  step_blocks(*this, values, momentum, gradients, copy, count, past_caches);
}
void SgdPart::step(double* values, double* momentum, const double* gradients, double* copy, std::int64_t count, bool past_caches) const {
  step_blocks(*this, values, momentum, gradients, copy, count, past_caches);
}

}  // namespace tugline
