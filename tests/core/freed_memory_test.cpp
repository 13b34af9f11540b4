// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/freed_memory.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstddef>
#include <cstdlib>

namespace tugline {
namespace {

long page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

/// As a step's activations.
void take_and_free() {
  constexpr std::size_t kBytes = 40 << 20, kPage = 4096;
  auto* const block = static_cast<volatile char*>(std::malloc(kBytes));
  for (std::size_t i = 0; i < kBytes; i += kPage) block[i] = 1;
  std::free(const_cast<char*>(block));
}

TEST(FreedMemory, IsKept) {
  if (!keep_freed_memory()) GTEST_SKIP() << "another malloc, or the environment has set it";
  take_and_free();
  const long before = page_faults();
  for (int i = 0; i < 10; ++i) take_and_free();
  EXPECT_LT(page_faults() - before, 100);   // or 10,240 for each
}

TEST(FreedMemory, TheEnvironmentHasItsWay) {
  ::setenv("MALLOC_TRIM_THRESHOLD_", "131072", 1);
  EXPECT_FALSE(keep_freed_memory());
  ::unsetenv("MALLOC_TRIM_THRESHOLD_");
}

}  // namespace
}  // namespace tugline
