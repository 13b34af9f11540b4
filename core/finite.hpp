// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "tugline/core/dtype.hpp"

namespace tugline {

/// Whether all of `count` elements are neither infinite nor NaN. Integers always are.
bool all_finite(const void* data, std::int64_t count, DType dtype);
bool all_finite(const float* data, std::int64_t count);
/// Copies and looks in one pass over memory. The arrays do not overlap.
bool copy_finite(const float* from, float* to, std::int64_t count);

}  // namespace tugline
