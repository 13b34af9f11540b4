// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "tugline/core/dtype.hpp"
#include "tugline/parallel/communicator.hpp"

namespace tugline {

/// out[i] = op over all r of in[r][i], in the order of `in`, for `count` elements. bfloat16 and float16 accumulate in float32 and are
/// rounded once, to nearest even. `out` may be one of `in`; other overlaps are not allowed. Booleans are summed as bytes.
void reduce(std::span<const void* const> in, void* out, std::int64_t count, DType dtype, ReduceOp op);
/// The same into several places at once, each of which may be one of `in`. True when all results are finite, before rounding.
bool reduce(std::span<const void* const> in, std::span<void* const> out, std::int64_t count, DType dtype, ReduceOp op);
/// The sum of 1, 2, 4, ... arrays as a fixed tree makes it: (in[0] + in[1]) + (in[2] + in[3]), so that a half of it that somebody else
/// added up has the same bits.
bool sum_pairwise(std::span<const void* const> in, std::span<void* const> out, std::int64_t count, DType dtype);

/// Element-wise conversion between bfloat16 or float16 (bit patterns) and float32.
void to_float32(const std::uint16_t* in, float* out, std::int64_t count, DType dtype);
void from_float32(const float* in, std::uint16_t* out, std::int64_t count, DType dtype);
/// out = bfloat16(values + residual), nearest even; residual becomes what rounding left out, or 0 where the result is not finite.
void round_to_bfloat16(const float* values, float* residual, std::uint16_t* out, std::int64_t count);
/// values += in
void add_bfloat16(const std::uint16_t* in, float* values, std::int64_t count);

}  // namespace tugline
