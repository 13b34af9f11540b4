// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/trace_range.hpp"

#include <nvtx3/nvToolsExt.h>

#include <cstdio>

namespace tugline {

TraceRange::TraceRange(const char* name) noexcept { nvtxRangePushA(name); }

TraceRange::TraceRange(const char* name, std::int64_t number) noexcept {
  char text[64];
  std::snprintf(text, sizeof text, "%s %lld", name, static_cast<long long>(number));
  nvtxRangePushA(text);
}

TraceRange::~TraceRange() { nvtxRangePop(); }

}  // namespace tugline
