// SPDX-License-Identifier: Apache-2.0
// What workers and the servers of other hosts say to each other, on a communicator of all ranks that is used for nothing else. Every request has one
// answer. What follows a message comes with a tag of its own, in the same order and in segments (segment_link.hpp).
#pragma once

#include <cstdint>

#include "tugline/parallel/async/range_ledger.hpp"
#include "tugline/parallel/segment_link.hpp"

namespace tugline {

struct FarRequest {
  enum class What : std::int32_t {
    give,       ///< a gradient, or that there is none; answered when it is applied. The gradient follows, unless it is dropped
    read,       ///< the worker computes on what the answer brings
    fetch,      ///< the answer is all it wants
    claim, close, end_step   ///< of the piece cursor
  };
  What what = What::give;
  std::int32_t range = 0;
  bool dropped = false;
  bool brings = true;              ///< the answer is to bring the values, where the worker's copy is of an older version
  bool exact = false;              ///< no version but `wanted` will do, and it is waited for
  std::int32_t staleness = 0;      ///< the present bound
  std::uint32_t copy = 0;          ///< the version that the worker has
  std::uint32_t wanted = 0;
  Push push;
};

struct FarAnswer {
  std::int32_t range = 0;
  bool brings = false;             ///< the values follow
  std::uint32_t version = 0;       ///< of the range, and of these values
  std::uint32_t applied = 0;       ///< that the worker's gradient became part of
};

/// The answer to claim, close and end_step.
struct FarClaim {
  std::int64_t piece = -1;         ///< -1: none
  std::int64_t end_step = 0;
};

namespace far_tags {
constexpr int kRequest = 1, kGradient = 2, kAnswer = 3, kValues = 4, kClaim = 5;
}  // namespace far_tags

/// Enough for a link to stay busy while a range is applied.
constexpr SegmentOptions kFarSegments{.in_flight = 32};

}  // namespace tugline
