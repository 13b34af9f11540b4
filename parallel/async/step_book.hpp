// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "tugline/parallel/async/piece_record.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"

namespace tugline {

/// Makes steps of the global batch out of pieces that are done in any order.
class StepBook {
 public:
  struct Options {
    int ranks = 1, pieces_per_step = 1;
    double staleness_power = 0;
    std::int64_t first_step = 0;
  };
  StepBook(StepPlan plan, Schedule schedule, Options options);

  void add(const PieceRecord& record);
  /// Steps whose pieces are all there, in order, each once.
  std::vector<GlobalStep> take_finished(std::int64_t staleness_bound);
  std::int64_t pieces() const { return pieces_; }   ///< added so far, counted through all steps

  /// Slowest rank's seconds per sample / fastest's, over the steps taken since the last call; 0 where only one has worked.
  double take_speed_ratio();

 private:
  GlobalStep finish(std::int64_t step, const std::map<std::int64_t, PieceRecord>& pieces) const;
  double rate_factor(const std::map<std::int64_t, PieceRecord>& pieces) const;

  StepPlan plan_;
  Schedule schedule_;
  Options options_;
  std::int64_t next_step_, pieces_;
  std::map<std::int64_t, std::map<std::int64_t, PieceRecord>> open_;   // by step, by piece
  std::vector<RankStep> since_;                                        // per rank, sums
};

}  // namespace tugline
