// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "tugline/parallel/async/range_ledger.hpp"

namespace tugline {

/// Where the ranges of the parameters are kept, as a worker sees it, or as a server does that works for others.
class RangeAccess {
 public:
  virtual ~RangeAccess() = default;
  virtual int num_ranges() const = 0;
  virtual RangeLedger& ledger(int range) = 0;
  /// Between these nobody else touches the range.
  virtual void lock(int range) = 0;
  virtual void unlock(int range) = 0;
  /// Steps the range by the gradients of `update`. Locked. Those who wait for it may look again once it is unlocked. `brings`: the worker's own
  /// copy becomes what it then is, part by part while that is in the cache; never for a server.
  virtual void apply(int range, const RangeUpdate& update, bool brings) = 0;
  /// The worker's own copy of the range becomes what the range is now. Locked. Servers do not call it.
  virtual void copy_out(int range) = 0;
};

/// When what waits is applied.
struct ApplyRule {
  int staleness = 0;                                   ///< the bound
  const std::vector<RangeScript>* scripts = nullptr;   ///< per range, of the run that this one repeats; null: a run of its own
};

/// One range, locked for as long as this lives, and what is done with it for a worker: by itself, or by the server of another host.
class LockedRange {
 public:
  LockedRange(RangeAccess& ranges, int range) : ranges_(ranges), range_(range) { ranges_.lock(range_); }
  ~LockedRange() { ranges_.unlock(range_); }
  LockedRange(const LockedRange&) = delete;
  LockedRange& operator=(const LockedRange&) = delete;

  std::uint32_t version() const { return ranges_.ledger(range_).version(); }
  bool waits(int worker) const { return ranges_.ledger(range_).waits(worker); }

  /// The worker's gradient waits, or (`dropped`) there will be none. The version that it becomes part of. Then apply_ready().
  std::uint32_t give(int worker, const Push& push, bool dropped, int staleness);
  /// The worker, whose copy is of the present version, computes on it.
  void read(int worker, const ApplyRule& rule);
  /// True: there was something. `brings`: see RangeAccess::apply().
  bool apply_ready(const ApplyRule& rule, bool brings = false);

 private:
  RangeAccess& ranges_;
  int range_;
};

}  // namespace tugline
