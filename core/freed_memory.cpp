// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/freed_memory.hpp"

#include <cstdlib>
#include <cstring>
#include <initializer_list>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace tugline {
namespace {

bool is_set_by_environment() {
  for (const char* name : {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  const char* const tunables = std::getenv("GLIBC_TUNABLES");
  return tunables != nullptr && std::strstr(tunables, "glibc.malloc") != nullptr;
}

}  // namespace

bool keep_freed_memory() {
  if (is_set_by_environment()) return false;
#if defined(__GLIBC__)
  // Blocks of their own mappings go back when they are freed. Before glibc 2.35 the limit was 32 MiB.
  const bool large = mallopt(M_MMAP_THRESHOLD, 1 << 30) == 1 || mallopt(M_MMAP_THRESHOLD, 32 << 20) == 1;
  return mallopt(M_TRIM_THRESHOLD, -1) == 1 && large;   // never
#else
  return false;
#endif
}

}  // namespace tugline
