// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace tugline {

/// What a part of a step of sgd does to each element, by its gradient g = scale * gradient + decay * value:
/// value -= carry * momentum + now * g, then momentum = keep * momentum + take * g.
struct SgdPart {
  double scale = 1, decay = 0, now = 0, carry = 0, keep = 0, take = 0;

  /// `count` elements of each, in one pass over memory, by this thread alone. `momentum` may be null, as if it were 0 all along. `copy`, unless it is
  /// null, gets the values as they then are; `past_caches`: it is not read for long. Nothing overlaps.
  void step(float* values, float* momentum, const float* gradients, float* copy, std::int64_t count, bool past_caches) const;
  void step(double* values, double* momentum, const double* gradients, double* copy, std::int64_t count, bool past_caches) const;
};

}  // namespace tugline
