// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/data/splits.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/random.hpp"

namespace tugline {
namespace {

using Indices = std::vector<std::int64_t>;

void check_fractions(const SplitConfig& config) {
  for (const auto& [key, fraction] : {std::pair{"validation", config.validation}, std::pair{"test", config.test}}) {
    if (!(fraction >= 0 && fraction < 1)) {
      throw ConfigError(fmt::format("data.split.{}: {} is no fraction: write a number from 0 to below 1", key, fraction));
    }
  }
  if (config.validation + config.test >= 1) {
    throw ConfigError(
        fmt::format("data.split: validation {} and test {} leave nothing to train on: their sum must be below 1",
                    config.validation, config.test));
  }
}

void check_part(const Indices& part, double fraction, const char* key, std::int64_t num_samples, const std::string& name) {
  if (!part.empty() || fraction == 0) return;
  throw DataError(fmt::format("{}: the {} split is empty: data.split.{} is {} of {} samples; raise it, or set it to 0",
                              name, key, key, fraction, num_samples));
}

void check_parts(const SplitIndices& parts, const SplitConfig& config, std::int64_t num_samples, const std::string& name) {
  check_part(parts.validation, config.validation, "validation", num_samples, name);
  check_part(parts.test, config.test, "test", num_samples, name);
  if (parts.train.empty())
    throw DataError(fmt::format("{}: the train split is empty: there are {} samples", name, num_samples));
}

/// Shares `total` among groups in proportion to `sizes`; the largest remainders get what rounding left over.
Indices allocate(std::int64_t total, const Indices& sizes) {
  const std::int64_t sum = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
  Indices shares(sizes.size());
  std::vector<std::pair<double, std::size_t>> remainders;
  for (std::size_t g = 0; g < sizes.size(); ++g) {
    const double exact =
        sum > 0 ? static_cast<double>(total) * static_cast<double>(sizes[g]) / static_cast<double>(sum) : 0;
    shares[g] = static_cast<std::int64_t>(exact);
    remainders.emplace_back(static_cast<double>(shares[g]) - exact, g);  // the most is owed to the smallest
  }
  std::int64_t left = total - std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
  std::sort(remainders.begin(), remainders.end());
  for (const auto& [owed, g] : remainders) {
    if (left > 0 && shares[g] < sizes[g]) ++shares[g], --left;
  }
  return shares;
}

/// Moves `counts[g]` samples off the end of each group into one ascending list.
Indices take_from(std::vector<Indices>& groups, const Indices& counts) {
  Indices part;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    part.insert(part.end(), groups[g].end() - counts[g], groups[g].end());
    groups[g].resize(groups[g].size() - counts[g]);
  }
  std::sort(part.begin(), part.end());
  return part;
}

Indices sizes_of(const std::vector<Indices>& groups) {
  Indices sizes;
  for (const Indices& group : groups) sizes.push_back(static_cast<std::int64_t>(group.size()));
  return sizes;
}

std::int64_t part_of(std::int64_t num_samples, double fraction) {
  return std::llround(fraction * static_cast<double>(num_samples));
}

}  // namespace

SplitIndices split_at_random(const SplitConfig& config, std::int64_t num_samples, const std::vector<std::int64_t>& classes,
                             std::uint64_t seed, const std::string& name) {
  check_fractions(config);
  const bool stratified = config.stratified && !classes.empty();
  const std::int64_t num_groups = stratified ? *std::max_element(classes.begin(), classes.end()) + 1 : 1;
  std::vector<Indices> groups(num_groups);
  Random random(seed, Purpose::split);
  for (const std::int64_t index : permutation(num_samples, random))
    groups[stratified ? classes[index] : 0].push_back(index);

  SplitIndices parts;
  parts.test = take_from(groups, allocate(part_of(num_samples, config.test), sizes_of(groups)));
  parts.validation = take_from(groups, allocate(part_of(num_samples, config.validation), sizes_of(groups)));
  parts.train = take_from(groups, sizes_of(groups));
  check_parts(parts, config, num_samples, name);
  return parts;
}

SplitIndices split_by_time(const SplitConfig& config, const std::vector<std::int64_t>& time_rank, const std::string& name) {
  check_fractions(config);
  const auto num_samples = static_cast<std::int64_t>(time_rank.size());
  Indices order(num_samples);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](auto left, auto right) { return time_rank[left] < time_rank[right]; });

  // A cut among equal times moves on to their end: the same moment is never both learned from and tested on.
  const auto cut_after = [&](std::int64_t position) {
    while (position > 0 && position < num_samples && time_rank[order[position]] == time_rank[order[position - 1]])
      ++position;
    return order.begin() + position;
  };
  const std::int64_t test_size = part_of(num_samples, config.test);
  const auto first_cut = cut_after(num_samples - test_size - part_of(num_samples, config.validation));
  const auto second_cut = std::max(first_cut, cut_after(num_samples - test_size));
  SplitIndices parts{{order.begin(), first_cut}, {first_cut, second_cut}, {second_cut, order.end()}};
  check_parts(parts, config, num_samples, name);
  return parts;
}

}  // namespace tugline
