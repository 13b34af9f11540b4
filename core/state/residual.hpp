// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace tugline {

/// What rounding has left over of gradients that went over the wire, to be added to the next ones (error feedback): this rank's, for elements
/// [begin, begin + values.size()) of an arena's flat buffer. Live memory of whoever sums.
struct Residual {
  int buffer = 0;
  std::int64_t begin = 0;
  std::span<float> values;
};

}  // namespace tugline
