// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <vector>

#include "tugline/parallel/balance/share_rule.hpp"

namespace tugline {

/// Shares of a full global batch that were decided before: one cut for the whole run, or a recorded sequence of them.
class FixedShares final : public ShareRule {
 public:
  /// `by_step`: from which step (counted from 0) each cut is used; one from step 0 is there. `unit`: samples that stay together.
  FixedShares(std::map<std::int64_t, std::vector<std::int64_t>> by_step, std::int64_t global_batch, std::int64_t unit = 1);

  std::vector<std::int64_t> shares(const Piece& global) const override;
  std::optional<ShareChange> observe(const Piece& global, std::span<const RankStep> ranks) override;

 private:
  std::map<std::int64_t, std::vector<std::int64_t>> by_step_;
  std::int64_t global_batch_;
  std::int64_t unit_;
};

}  // namespace tugline
