// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tugline/core/data/sample_order.hpp"
#include "tugline/core/metrics/rank_step.hpp"

namespace tugline {

/// A new cut, and why.
struct ShareChange {
  std::vector<std::int64_t> shares;   ///< samples of a full global batch, in rank order
  std::string reason;                 ///< a sentence for people
};

/// Cuts the global batch into shares. Every rank has a rule object of its own, made alike and told the same, and comes to the same answer:
/// nothing is exchanged but what a step's record carries. One thread.
class ShareRule {
 public:
  virtual ~ShareRule() = default;
  /// Samples of `global` for each rank, in rank order; they add up to its size. Of the step that observe() was told of last, or the next.
  virtual std::vector<std::int64_t> shares(const Piece& global) const = 0;
  /// After a step over `global` that was not skipped, with what all ranks did in it: the next step may be cut otherwise, and then says so.
  virtual std::optional<ShareChange> observe(const Piece& global, std::span<const RankStep> ranks) = 0;
  /// What continuing needs, as text; empty: nothing.
  virtual std::string state() const { return {}; }
  /// Takes what state() gave; shares that this rule would not make are cut anew. False: it was another job's (ranks, batch), or there is nothing to take, and all is as before. Throws
  /// CheckpointError when it cannot be read.
  virtual bool restore(const std::string&) { return false; }
};

}  // namespace tugline
