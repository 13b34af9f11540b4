// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace tugline {

/// What a part of a step of sgd does to each element, by its gradient g = scale * gradient + decay * value:
/// value -= carry * momentum + now * g, then momentum = keep * momentum + take * g.
struct SgdPart {
  double scale = 1, decay = 0, now = 0, carry = 0, keep = 0, take = 0;

  /// One array per tensor; none overlaps another.
  template <typename T>
  struct Arrays {
    T* values;
    const T* gradients;
    T* momentum = nullptr;   ///< null: it is 0 all along
    T* copy = nullptr;       ///< gets the values as they then are; null: nothing does
    Arrays at(std::int64_t element) const {
      return {values + element, gradients + element, momentum == nullptr ? nullptr : momentum + element, copy == nullptr ? nullptr : copy + element};
    }
  };
  /// `count` elements of each, in one pass over memory, by this thread alone. `past_caches`: the copy is not read for long.
  void step(const Arrays<float>& arrays, std::int64_t count, bool past_caches) const;
  void step(const Arrays<double>& arrays, std::int64_t count, bool past_caches) const;
};

}  // namespace tugline
