// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/balance/cut.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tugline {
namespace {

using Shares = std::vector<std::int64_t>;

/// Bounds that `ranks` ranks can keep with `total` samples.
ShareBounds possible(ShareBounds bounds, std::int64_t total, std::int64_t ranks) {
  bounds.least = std::clamp<std::int64_t>(bounds.least, 0, total / ranks);
  bounds.most = std::max({bounds.most, bounds.least, (total + ranks - 1) / ranks});
  return bounds;
}

/// Whole shares that add up to `total`, from wishes that do but for rounding. `bounds` are whole already.
Shares round(std::int64_t total, const std::vector<double>& wishes, const ShareBounds& bounds) {
  const std::size_t ranks = wishes.size();
  Shares shares(ranks);
  std::vector<double> remainders(ranks);
  for (std::size_t r = 0; r < ranks; ++r) {
    shares[r] = std::clamp(static_cast<std::int64_t>(std::floor(wishes[r])), bounds.least, bounds.most);
    remainders[r] = wishes[r] - static_cast<double>(shares[r]);
  }
  Shares order(ranks);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
    return remainders[static_cast<std::size_t>(a)] > remainders[static_cast<std::size_t>(b)];
  });
  std::int64_t left = total - std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
  while (left != 0) {   // more than once around only where wishes were far from adding up
    const std::int64_t before = left;
    for (std::size_t i = 0; i < ranks && left != 0; ++i) {
      std::int64_t& share = shares[static_cast<std::size_t>(left > 0 ? order[i] : order[ranks - 1 - i])];
      if (left > 0 && share < bounds.most) { ++share; --left; }
      if (left < 0 && share > bounds.least) { --share; ++left; }
    }
    if (left == before) break;   // possible() rules it out
  }
  return shares;
}

/// Samples that a rank can do until `level`, within bounds.
double until(double level, const StepCost& cost, const ShareBounds& bounds) {
  const double samples = (level - cost.fixed_seconds) / cost.sample_seconds;   // x / infinity is 0
  const double most = std::min(static_cast<double>(bounds.most), 1e18);
  return std::clamp(std::isnan(samples) ? 0 : samples, static_cast<double>(bounds.least), most);
}

}  // namespace

Shares equal_shares(std::int64_t total, int ranks, std::int64_t unit) {
  const std::int64_t units = (total + unit - 1) / unit;
  Shares shares;
  for (std::int64_t r = 0; r < ranks; ++r) shares.push_back(units * (r + 1) / ranks - units * r / ranks);
  return units_to_samples(std::move(shares), unit, total);
}

Shares cut_by_weight(std::int64_t total, std::span<const double> weights, const ShareBounds& bounds) {
  std::vector<StepCost> costs;
  const bool all_zero = std::all_of(weights.begin(), weights.end(), [](double weight) { return !(weight > 0); });
  const double largest = all_zero ? 1 : *std::max_element(weights.begin(), weights.end());
  for (const double weight : weights) costs.push_back({0, all_zero ? 1 : largest / weight});   // 1 / 0: no samples
  return cut_by_cost(total, costs, bounds);
}

Shares cut_by_cost(std::int64_t total, std::span<const StepCost> costs, const ShareBounds& wanted) {
  const ShareBounds bounds = possible(wanted, total, static_cast<std::int64_t>(costs.size()));
  const auto all_until = [&](double level) {
    double samples = 0;
    for (const StepCost& cost : costs) samples += until(level, cost, bounds);
    return samples;
  };
  const auto goal = static_cast<double>(total);
  double high = 1e-9;
  while (all_until(high) < goal && high < 1e30) high *= 2;
  double low = 0;
  for (int i = 0; i < 100 && low < high; ++i) {   // what is left is far below a sample
    const double middle = low + (high - low) / 2;
    (all_until(middle) < goal ? low : high) = middle;
  }
  std::vector<double> wishes;
  for (const StepCost& cost : costs) wishes.push_back(until(high, cost, bounds));
  return round(total, wishes, bounds);
}

double slowest(std::span<const StepCost> costs, std::span<const std::int64_t> shares) {
  double seconds = 0;
  for (std::size_t r = 0; r < costs.size(); ++r) {
    if (shares[r] > 0) seconds = std::max(seconds, costs[r].seconds(shares[r]));
  }
  return seconds;
}

Shares scale_shares(std::int64_t total, std::span<const std::int64_t> shares, std::int64_t unit, std::int64_t least) {
  const Shares equal = equal_shares(std::accumulate(shares.begin(), shares.end(), std::int64_t{0}), static_cast<int>(shares.size()), unit);
  if (std::equal(shares.begin(), shares.end(), equal.begin())) return equal_shares(total, static_cast<int>(shares.size()), unit);
  const bool all_have_some = *std::min_element(shares.begin(), shares.end()) > 0;
  const std::vector<double> weights(shares.begin(), shares.end());
  return units_to_samples(cut_by_weight((total + unit - 1) / unit, weights, {all_have_some ? (least + unit - 1) / unit : 0}), unit, total);
}

Shares units_to_samples(Shares units, std::int64_t unit, std::int64_t total) {
  std::int64_t left = total;
  for (std::int64_t& share : units) {
    share = std::min(share * unit, left);
    left -= share;
  }
  return units;
}

}  // namespace tugline
