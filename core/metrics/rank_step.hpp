// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace tugline {

/// One rank's part of a step.
struct RankStep {
  std::int64_t samples = 0;    ///< its share
  double data_seconds = 0;     ///< waiting for the loader
  double compute_seconds = 0;  ///< forward and backward, without waiting for other ranks
  double cpu_seconds = 0;      ///< of compute_seconds: what its computing thread had a core for
  double waited_seconds = 0;   ///< for others, where each goes its own way; where all finish together, waiting is what the longest was busy more

  double busy_seconds() const { return data_seconds + compute_seconds; }
};

}  // namespace tugline
