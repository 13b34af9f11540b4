// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/balance/fixed_shares.hpp"

#include <iterator>
#include <utility>

#include "tugline/core/error.hpp"
#include "tugline/parallel/balance/cut.hpp"

namespace tugline {

FixedShares::FixedShares(std::map<std::int64_t, std::vector<std::int64_t>> by_step, std::int64_t global_batch, std::int64_t unit)
    : by_step_(std::move(by_step)), global_batch_(global_batch), unit_(unit) {
  if (by_step_.count(0) == 0) throw Error("there are no shares for the first step");
}

std::vector<std::int64_t> FixedShares::shares(const Piece& global) const {
  const auto& cut = std::prev(by_step_.upper_bound(global.step))->second;
  return global.global_size() == global_batch_ ? cut : scale_shares(global.global_size(), cut, unit_);
}

std::optional<ShareChange> FixedShares::observe(const Piece& global, std::span<const RankStep>) {
  const auto next = std::prev(by_step_.upper_bound(global.step + 1));
  if (next == std::prev(by_step_.upper_bound(global.step))) return std::nullopt;
  return ShareChange{next->second, "as recorded"};
}

}  // namespace tugline
