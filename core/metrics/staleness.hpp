// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace tugline {

/// How old the parameters were that gradients were computed on: a gradient's staleness is how many updates were applied to its part of the
/// parameters between the read that it comes from and its own.
struct Staleness {
  std::vector<std::int64_t> counts;   ///< [i]: how often it was i
  std::int64_t bound = 0;             ///< it may not be more

  void add(std::int64_t updates, std::int64_t times = 1) {
    counts.resize(std::max(counts.size(), static_cast<std::size_t>(updates) + 1));
    counts[static_cast<std::size_t>(updates)] += times;
  }
  void add(const Staleness& other) {
    for (std::size_t i = 0; i < other.counts.size(); ++i) add(static_cast<std::int64_t>(i), other.counts[i]);
    bound = other.bound;
  }
  std::int64_t largest() const { return std::max<std::int64_t>(static_cast<std::int64_t>(counts.size()) - 1, 0); }
  double mean() const {
    const std::int64_t total = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    double sum = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) sum += static_cast<double>(i) * static_cast<double>(counts[i]);
    return total > 0 ? sum / static_cast<double>(total) : 0;
  }
};

}  // namespace tugline
