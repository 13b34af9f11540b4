// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "tugline/core/state/arena.hpp"

namespace tugline {

class Communicator;
class NodeTeam;

/// The part of `range` that rank `rank` of `size` sums, checks, or steps. Cuts lie at multiples of 64 bytes for every dtype.
Range slice_of(const Range& range, int rank, int size);
std::int64_t gradient_bytes(const Arena& arena);

/// How the buckets of one gradient arena become sums over all ranks. Every rank calls begin(), start() for each bucket in the
/// arena's order, and finish(), once per step. One thread.
class BucketSum {
 public:
  virtual ~BucketSum() = default;
  /// A new step: from here on gradients may be written.
  virtual void begin() = 0;
  /// This rank's gradients of the bucket are complete and stay untouched until finish(). Never blocks.
  virtual void start(int bucket) = 0;
  /// Does what can be done without waiting; backward calls it now and then.
  virtual void progress() = 0;
  /// Waits for the sums. What is where afterwards: sums_everywhere().
  virtual void finish() = 0;
  /// True: every rank holds the whole sum. False: each holds its slice_of() every bucket, the rest is undefined.
  virtual bool sums_everywhere() const = 0;
  /// After finish(): the sum's slices of this rank are finite. All ranks together look at everything.
  virtual bool finite() const = 0;
  /// Bytes of gradients that one step sends to other ranks.
  virtual std::int64_t bytes() const = 0;
};

/// Each bucket is one all-reduce of `communicator`.
std::unique_ptr<BucketSum> make_message_sum(Communicator& communicator, Arena& arena);

/// The gradients lie in `team`'s memory: each rank adds up its slice of all ranks' gradients in place, in rank order, so that every run
/// has the same bits. Where the arena's values are common to the team, sums stay with their owners, who step them; otherwise they are
/// written to all ranks.
std::unique_ptr<BucketSum> make_node_sum(std::shared_ptr<NodeTeam> team, Arena& arena);

}  // namespace tugline
