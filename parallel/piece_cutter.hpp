// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "tugline/parallel/sync/sync_strategy.hpp"

namespace tugline {

class Communicator;
class ShareRule;

/// This rank's pieces of a run, step after step: its share of each global batch. Not collective.
class PieceCutter {
 public:
  struct Options {
    std::int64_t first_step = 0;
    int shards = 0;                      ///< see SyncOptions; 0: off
    std::shared_ptr<ShareRule> shares;   ///< null: equal shares
  };
  PieceCutter(const Communicator& ranks, StepPlan plan, Options options);

  std::optional<Piece> next();                              ///< nullopt after the last step
  std::optional<Piece> upcoming(const Piece& piece) const;  ///< as the rule stands now
  const Piece& current() const { return current_; }         ///< what next() gave last
  bool at_last_step() const { return current_.step + 1 >= plan_.total_steps; }

 private:
  std::optional<Piece> piece(std::int64_t step) const;

  StepPlan plan_;
  Options options_;
  int rank_, size_;
  std::int64_t step_;
  Piece current_;
};

}  // namespace tugline
