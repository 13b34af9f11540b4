// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
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
  std::shared_ptr<NodeTeam> node;    ///< the ranks of this host; null: there is only this rank
  std::vector<int> host_of = {0};    ///< per rank of the job, each a worker: its host
  int rank = 0;                      ///< this one
  std::vector<Range> kept;           ///< per flat, of the ranges that this host keeps; empty: all of them
  int pieces_per_step = 1;
  bool in_turns = false;             ///< see PieceCursor
  double staleness_power = 0;        ///< see staleness_factor()
  double clip_value = 0;             ///< of an update's gradient; 0: off
};

/// Parameters that the ranks of one host have in common, in ranges (the buckets of an arena), without a server process: whoever pushes the
/// gradient that completes an update applies it. Each rank has the arena's values as a copy of its own to compute on; gradients lie in memory
/// that all reach; those of workers on other hosts are received there. What RangeAccess has may be called by a second thread of the rank.
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
  void apply(int range, const RangeUpdate& update, bool brings) override;
  void copy_out(int range) override;

  /// Waits until `range` has had the update that makes `version`.
  void wait_for(int range, std::uint32_t version);
  std::optional<std::int64_t> claim(int worker);
  void close();

  // Where nobody works:
  void publish();                                       ///< the common values become this rank's
  void open(std::int64_t step, std::int64_t end);       ///< see PieceCursor; by one rank of the host
  std::int64_t end_step() const;                        ///< after which all meet

  /// Where the gradient of `worker` is, and the common values.
  std::span<std::byte> gradient(int worker, int range) const;
  std::span<std::byte> values(int range) const;
  /// Keeps what far workers' gradients are received into alive.
  std::vector<std::shared_ptr<void>> inboxes() const { return inboxes_; }

  /// Since the last call.
  struct Spent {
    double wait_seconds = 0, apply_seconds = 0;   ///< by the thread that made this
    double serve_seconds = 0;                     ///< applying by another, which serves other hosts meanwhile
    std::int64_t bytes = 0;   ///< that came from other ranks' memory or went to common memory
  };
  Spent take_spent();
  void add_wait(double seconds);   ///< of this rank for others, elsewhere than in wait_for()

 private:
  struct Place;
  class CursorLock;
  /// Where a worker's gradients of a flat begin: those from element `first` on.
  struct Gradients {
    std::byte* memory = nullptr;
    std::int64_t first = 0;
  };
  Place& place(std::size_t index) const;
  void make_places();
  void find_gradients();
  void copy(int range);   // to this rank's own values
  std::byte* gradient_at(int worker, const Range& range) const;
  at::Tensor gather(const Range& chunk, const RangeUpdate& update);
  static double gradient_scale(const RangeUpdate& update);
  double learning_rate(const RangeUpdate& update) const;

  Arena& arena_;
  Optimizer& optimizer_;
  std::vector<at::Tensor> common_;                    // per flat
  Schedule schedule_;
  SharedRangesOptions options_;
  const Clock& clock_;
  std::shared_ptr<void> memory_;                      // places: the cursor's, then one per range
  std::size_t place_bytes_;
  std::optional<PieceCursor> cursor_;
  std::vector<RangeLedger> ledgers_;
  std::vector<std::vector<Arena::Segment>> chunks_;   // per range: what fits into a cache and has one parameter group
  std::vector<std::vector<Gradients>> gradients_;     // per flat, per worker
  std::vector<std::shared_ptr<void>> inboxes_;        // per flat: of workers on other hosts
  std::mutex mutex_;
  Spent spent_;                                       // under the mutex
  const std::thread::id own_thread_ = std::this_thread::get_id();
};

}  // namespace tugline
