// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/sync/exchange.hpp"

namespace tugline {

class Communicator;
class NodeTeam;

/// The part of `range` that rank `rank` of `size` sums, checks, or steps. Cuts lie at multiples of 64 bytes for every dtype.
Range slice_of(const Range& range, int rank, int size);
/// Sum of the magnitudes of all gradients, a scalar of float64 where they are: finite where each of them is.
at::Tensor magnitude_there(const Arena& arena);
/// No gradient in `range` is infinite or NaN.
bool all_finite(const Arena& arena, const Range& range);

/// How the buckets of one gradient arena become sums over all ranks. Every rank calls begin(), start() for each bucket, all in
/// one order, and finish(), once per step. One thread.
class BucketSum {
 public:
  virtual ~BucketSum() = default;
  /// A new step: from here on gradients may be written.
  virtual void begin() = 0;
  /// This rank's gradients of the bucket are complete and stay untouched until finish(). Never blocks.
  virtual void start(int bucket) = 0;
  /// Does what can be done without waiting; backward calls it now and then.
  virtual void progress() = 0;
  /// Waits for the sums.
  virtual void finish() = 0;
  /// The part of a bucket in which this rank's gradients are the sum after finish(); the rest is undefined. Either all of it on all ranks,
  /// or on each host every element on one rank.
  virtual Range held(int bucket) const = 0;
  /// The part of held() that this rank looks at for all: each element of the bucket is in this range of one rank.
  virtual Range watched(int bucket) const = 0;
  /// After finish(): the sums in this rank's watched ranges are finite.
  virtual bool finite() const = 0;
  /// The step that finish() ended is skipped: nothing of it may reach the next one. Called on all ranks alike.
  virtual void forget() = 0;
  /// What rounding on the wire has left over on this rank, bucket by bucket.
  virtual std::vector<Residual> residuals() const = 0;
  /// Bytes of gradients that one step sends to other ranks.
  virtual std::int64_t bytes() const = 0;
};

/// Each bucket is one message sum over `communicator`.
std::unique_ptr<BucketSum> make_message_sum(Communicator& communicator, Arena& arena, const ExchangeOptions& options = {});

/// The gradients lie in `team`'s memory: the ranks of a host add up a slice each of all their gradients in place, in rank order, so that
/// every run has the same bits. Then each lane exchanges its slices with the other hosts. Where the arena's values are common to the host,
/// sums stay with their owners, who step them; otherwise they are written to all its ranks. Collective.
std::unique_ptr<BucketSum> make_node_sum(std::shared_ptr<NodeTeam> team, Arena& arena, const ExchangeOptions& options = {.ring = true});

}  // namespace tugline
