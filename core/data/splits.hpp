// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tugline {

struct SplitConfig;

/// Which samples of a data set go where, each list ascending (by time: in the order of time).
struct SplitIndices {
  std::vector<std::int64_t> train, validation, test;
};

/// Draws the parts at random from the run's seed. `classes` (one per sample) keeps their proportions where the config wants
/// that; empty for what has no classes. `name` is the data set's in errors. DataError when a wanted part would be empty.
SplitIndices split_at_random(const SplitConfig& config, std::int64_t num_samples, const std::vector<std::int64_t>& classes,
                             std::uint64_t seed, const std::string& name);

/// `time_rank[i]` tells when sample i was taken; equal ranks stay on one side of a cut. Oldest: train, then validation,
/// then test.
SplitIndices split_by_time(const SplitConfig& config, const std::vector<std::int64_t>& time_rank, const std::string& name);

}  // namespace tugline
