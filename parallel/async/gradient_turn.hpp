// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "tugline/parallel/async/range_access.hpp"

namespace tugline {

class FarRanges;

/// Where in another run's record this worker is; null members: a run of its own.
struct Repeated {
  const std::vector<RangeScript>* scripts = nullptr;        ///< per range
  const std::vector<std::uint32_t>* applied = nullptr;      ///< per range: what the update with this gradient made
  const std::vector<std::uint32_t>* versions = nullptr;     ///< per range: what is to be read next; null: nothing
};

/// What one worker does between two computations: gives its gradient to every range, waits until all are applied, and reads every range
/// again. A range is copied while its update is in the cache; a read counts only once nothing of this worker waits any more, so that
/// who holds up others never waits itself. In steps, each of which locks one range at a time, so that all their interleavings can be tried.
///
/// Where a run repeats another, versions are read as they come, in the order that the other had: on its hosts it may not have been the one here.
///
/// Ranges of other hosts are asked for by messages, all before the first answer is waited for: first all gradients; then, when all are applied
/// everywhere, all reads, which in a run of its own nothing but the network delays.
class GradientTurn {
 public:
  struct Options {
    int worker = 0;
    int first_range = 0;      ///< workers begin with different ones, and go around
    int staleness = 0;        ///< the bound
    bool dropped = false;     ///< the gradient is left out
    bool reads = true;        ///< afterwards; false: the worker stops here
    Repeated repeated;
    FarRanges* far = nullptr; ///< null: all ranges are kept here
  };
  /// A turn that begins with a gradient. `copies`: the version of each range that this worker has, kept up to date; outlives it.
  GradientTurn(RangeAccess& ranges, std::vector<std::uint32_t>& copies, const Push& push, const Options& options);
  /// One that only reads.
  GradientTurn(RangeAccess& ranges, std::vector<std::uint32_t>& copies, const Options& options);

  /// One step. False: it has to wait for blocked_on() or, where must_poll(), for any of several things; or it is done().
  bool advance();
  bool done() const { return phase_ == Phase::done; }
  struct Blocked {
    int range = 0;
    std::uint32_t version = 0;   ///< that the range must have reached
  };
  Blocked blocked_on() const { return blocked_; }
  /// What it waits for may come from several sides, or by messages, which move only while advance() is called: no sleeping.
  bool must_poll() const;

  /// Per range, once done: the version that this turn's gradient became part of.
  const std::vector<std::uint32_t>& applied() const { return applied_; }

 private:
  enum class Phase { giving, waiting, asking, reading, done };
  Phase first_of_reading() const;
  int range() const;
  ApplyRule rule() const { return {options_.staleness, options_.repeated.scripts}; }
  void next_range();
  bool advance_range();
  bool read_any();
  bool advance_here();
  void give(LockedRange& range);
  bool wait(const LockedRange& range);
  bool read(LockedRange& range);
  bool advance_far();
  void copy(std::uint32_t version);

  RangeAccess& ranges_;
  std::vector<std::uint32_t>& copies_;
  Push push_;
  Options options_;
  std::vector<int> order_;   // far ranges, then those here
  int num_far_ = 0;
  Phase phase_;
  int position_ = 0;
  std::vector<int> unread_;  // positions, where versions are given
  Blocked blocked_;
  std::vector<std::uint32_t> applied_;
};

}  // namespace tugline
