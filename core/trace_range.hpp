// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace tugline {

/// A span of this thread in the timeline of a profiler (Nsight Systems, by NVTX) while it lives; spans lie in spans. What is queued on a
/// device meanwhile is shown as part of it. Nothing at all in builds without CUDA; little where no profiler looks.
class TraceRange {
 public:
  explicit TraceRange(const char* name) noexcept;
  TraceRange(const char* name, std::int64_t number) noexcept;   ///< "bucket 3"
  ~TraceRange();
  TraceRange(const TraceRange&) = delete;
  TraceRange& operator=(const TraceRange&) = delete;
};

}  // namespace tugline
