// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/trace_range.hpp"

namespace tugline {

TraceRange::TraceRange(const char*) noexcept {}
TraceRange::TraceRange(const char*, std::int64_t) noexcept {}
TraceRange::~TraceRange() = default;

}  // namespace tugline
