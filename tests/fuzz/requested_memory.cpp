// SPDX-License-Identifier: Apache-2.0
// A source of its own: where GCC 12 inlines one of these and not the other, it warns that they do not match.
#include "tugline/tests/fuzz/requested_memory.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::size_t> largest{0}, all{0};

}  // namespace

void* operator new(std::size_t bytes) {
  std::size_t before = largest;
  while (before < bytes && !largest.compare_exchange_weak(before, bytes)) {
  }
  all += bytes;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace tugline {

RequestedMemory requested_memory() { return {largest, all}; }
void forget_requested_memory() { largest = all = 0; }

}  // namespace tugline
