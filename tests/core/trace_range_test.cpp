// SPDX-License-Identifier: Apache-2.0
// What a profiler is told.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "tugline/core/trace_range.hpp"

namespace tugline {
namespace {

TEST(TraceRange, TellsSpansInSpans) {
  ASSERT_EQ(::setenv("NVTX_INJECTION64_PATH", TUGLINE_TRACE_RECORDER, 1), 0);   // read at the first range
  {
    const TraceRange step("step", 12);
    { const TraceRange data("data"); }
    const TraceRange bucket("bucket", 0);
  }
  void* const recorder = ::dlopen(TUGLINE_TRACE_RECORDER, RTLD_NOW);
  ASSERT_NE(recorder, nullptr) << ::dlerror();
  const auto trace = reinterpret_cast<const char* (*)()>(::dlsym(recorder, "trace"));
  ASSERT_NE(trace, nullptr);
  EXPECT_EQ(std::string(trace()), "(step 12(data)(bucket 0))");
}

}  // namespace
}  // namespace tugline
