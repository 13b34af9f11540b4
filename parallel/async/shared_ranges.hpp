// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "tugline/core/clock.hpp"
#include "tugline/core/optim/schedule.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/async/gradient_turn.hpp"
#include "tugline/parallel/async/piece_cursor.hpp"

namespace tugline {

class NodeTeam;
class Optimizer;

struct SharedRangesOptions {
  std::shared_ptr<NodeTeam> node;    ///< the workers; null: there is only this one
  int workers = 1;
  int pieces_per_step = 1;
  bool in_turns = false;             ///< see PieceCursor
  double staleness_power = 0;        ///< an update that is stale by s is multiplied by (1 + s / pieces_per_step) ^ -power
  double clip_value = 0;             ///< of an update's gradient; 0: off
};

/// Parameters that the ranks of one host have in common, in ranges (the buckets of an arena), without a server process: whoever pushes the
/// gradient that completes an update applies it. Each rank has the arena's values as a copy of its own to compute on; gradients lie in memory
/// that all reach. One thread per rank.
class SharedRanges final : public RangeAccess {
 public:
  /// `optimizer` steps `common`, which a call of arena.like() has made in memory of the team. Collective. Everything must outlive it.
  SharedRanges(Arena& arena, Optimizer& optimizer, std::vector<at::Tensor> common, Schedule schedule, SharedRangesOptions options,
               const Clock& clock);
  ~SharedRanges() override;

  int num_ranges() const override { return static_cast<int>(ledgers_.size()); }
  RangeLedger& ledger(int range) override { return ledgers_[static_cast<std::size_t>(range)]; }
  void lock(int range) override;
  void unlock(int range) override;
  void apply(int range, const RangeUpdate& update) override;
  void copy_out(int range) override;

  /// Takes all steps of `turn`, and waits where it must.
  void run(GradientTurn& turn);
  std::optional<std::int64_t> claim(int worker);
  void close();

  // Where nobody works:
  void publish();                                       ///< the common values become this rank's
  void fetch(std::vector<std::uint32_t>& copies);       ///< this rank's become the common ones
  void open(std::int64_t step, std::int64_t end);       ///< see PieceCursor; by one rank
  std::int64_t end_step() const;                        ///< after which all meet

  /// Since the last call.
  struct Spent {
    double wait_seconds = 0, apply_seconds = 0;
    std::int64_t bytes = 0;   ///< that came from other ranks' memory or went to common memory
  };
  Spent take_spent();

 private:
  struct Place;
  class CursorLock;
  Place& place(std::size_t index) const;
  at::Tensor gather(const Range& chunk, const RangeUpdate& update, double nominal_weight);
  double learning_rate(const RangeUpdate& update) const;

  Arena& arena_;
  Optimizer& optimizer_;
  std::vector<at::Tensor> common_;                    // per flat
  Schedule schedule_;
  SharedRangesOptions options_;
  const Clock& clock_;
  int me_;
  std::shared_ptr<void> memory_;                      // places: the cursor's, then one per range
  std::size_t place_bytes_;
  std::optional<PieceCursor> cursor_;
  std::vector<RangeLedger> ledgers_;
  std::vector<std::vector<Arena::Segment>> chunks_;   // per range: what fits into a cache and has one parameter group
  std::vector<std::vector<std::byte*>> gradients_;    // per flat, per worker
  Spent spent_;
};

}  // namespace tugline
