// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace tugline {

/// What a step costs one rank: fixed_seconds + samples * sample_seconds. An infinite sample_seconds is a rank that gets nowhere.
struct StepCost {
  double fixed_seconds = 0;
  double sample_seconds = 0;
  double seconds(std::int64_t samples) const { return fixed_seconds + static_cast<double>(samples) * sample_seconds; }
};

/// Samples that each rank gets at least and at most. What cannot be kept (a batch smaller than all minima together, or larger than all
/// maxima) gives way.
struct ShareBounds {
  std::int64_t least = 1;
  std::int64_t most = std::numeric_limits<std::int64_t>::max();
};

// Pure functions: every rank that calls them with the same arguments gets the same answer. Shares are in rank order and add up to `total`;
// rounding is by largest remainder, ties go to the lower rank.

/// Equal but for rounding, whole units but for the last. The same as equal_share() where the unit is a sample.
std::vector<std::int64_t> equal_shares(std::int64_t total, int ranks, std::int64_t unit = 1);

/// Shares in proportion to `weights`, which are finite and not negative; equal shares when all are zero.
std::vector<std::int64_t> cut_by_weight(std::int64_t total, std::span<const double> weights, const ShareBounds& bounds = {0});

/// Shares with which all ranks finish together: water-filling, the level being the time at which they do.
std::vector<std::int64_t> cut_by_cost(std::int64_t total, std::span<const StepCost> costs, const ShareBounds& bounds);

/// The rank that takes longest, in seconds.
double slowest(std::span<const StepCost> costs, std::span<const std::int64_t> shares);

/// `total` samples cut like `shares`, which were made for another total (the ragged last batch of an epoch): equal ones stay equal, and
/// where all had samples each keeps `least` of them, if there are enough. Whole units but for the last.
std::vector<std::int64_t> scale_shares(std::int64_t total, std::span<const std::int64_t> shares, std::int64_t unit = 1, std::int64_t least = 1);

/// Shares in samples from shares in units (micro-batches): the last rank that has any has the ragged last unit.
std::vector<std::int64_t> units_to_samples(std::vector<std::int64_t> units, std::int64_t unit, std::int64_t total);

}  // namespace tugline
