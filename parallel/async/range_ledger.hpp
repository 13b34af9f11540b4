// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tugline {

/// A gradient that is to be applied, as what it counts.
struct Push {
  std::int64_t piece = 0;          ///< number in the run's order of pieces: step * pieces per step + which of them
  std::int64_t step = 0;
  std::int64_t samples = 0;        ///< 0: an empty piece, whose gradient is zero
  std::int64_t step_samples = 1;   ///< of the whole global batch
  double weight = 0;               ///< of the samples
  double nominal_weight = 1;       ///< what backward was seeded with the inverse of
  bool left_out = false;           ///< the gradient is not to be looked at
  std::uint32_t version = 0;       ///< that its update makes, in a run that repeats another; 0: whichever is next
};

/// Gradients that are applied together, as one update of a range.
struct AppliedPush {
  int worker = 0;
  Push push;
  std::uint32_t version_read = 0;
  std::uint32_t staleness = 0;     ///< updates between its read and this one
};
struct RangeUpdate {
  std::vector<AppliedPush> pushes; ///< in the order of pieces, whoever came first
  std::uint32_t version = 0;       ///< of the range after it
  double number = 0;               ///< steps done after it, counted in pieces
  double fraction = 0;             ///< samples / samples of their global batches
  bool whole_step = false;         ///< it is all pieces of one step, and no others
  bool first = false;              ///< of the run
  std::uint32_t staleness = 0;     ///< of the oldest
};

/// What is left of the learning rate of an update that is stale by so many updates: ((staleness + 1) / pieces of a step) ^ -power, but no more than
/// all of it (Zhang et al. 2016, "staleness-aware async-SGD", divide by the staleness; an update of one piece is a step divided by the pieces already).
double staleness_factor(std::uint32_t staleness, int pieces_per_step, double power);

/// What a recorded run did to a range: version v became v + 1 by pushes[v] gradients, after readers[v] workers had read it.
struct RangeScript {
  std::vector<int> pushes, readers;
};

/// What is known of one range of the parameters on its server: how many updates it has had, which worker computes on which version of it,
/// and whose gradients wait. The protocol of asynchronous SGD with bounded staleness (Ho et al. 2013, "stale synchronous parallel", for single
/// updates): whatever waits is applied together as soon as that leaves no read that is still computed on older than the bound. So a
/// worker that is slow holds the others no longer than the bound demands, whose gradients are then one update, and the bound itself
/// cannot be missed. With a bound of 0 an update is a whole step.
///
/// A view of memory that may be shared between processes: zeroed memory is a new ledger. Calls must exclude each other. Every worker reads, then
/// pushes or drops, and reads again only when its push has been applied; it may not wait for anything but its computation between the two.
class RangeLedger {
 public:
  static std::size_t bytes(int workers);
  /// `pieces_per_step`: what a step of the global batch is cut into.
  RangeLedger(void* memory, int workers, int pieces_per_step);

  std::uint32_t version() const;
  /// Nobody works: so many pieces of the run have been applied or left out.
  void begin_at(std::int64_t pieces);

  /// `worker` computes on the present version from now on.
  void read(int worker);
  /// Its gradient waits to be applied.
  void push(int worker, const Push& push);
  /// There will be none: `push` says of which piece. It counts as done only from the next begin_at() on, but where its step waits for it.
  void drop(int worker, Push push, int staleness);

  bool waits(int worker) const;   ///< its gradient does
  /// What waits may be applied: in a run of its own, with `staleness` as the bound; in one that repeats another, when everything of the next
  /// update is there, and everybody has read who did.
  bool ready(int staleness) const;
  bool ready(const RangeScript& script) const;
  /// What waits for the next version is applied now, by the caller. Something must.
  RangeUpdate take();

 private:
  enum class State : std::uint32_t { idle, computing, waiting };
  struct Head;
  struct Worker;
  bool is_next(const Worker& worker) const;
  int waiting() const;

  Head* head_;
  Worker* workers_;
  int size_, pieces_per_step_;
};

}  // namespace tugline
