// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/state/bucket_hooks.hpp"
#include "tugline/parallel/sync/bucket_sum.hpp"

namespace tugline {

class Arena;
class Communicator;

/// Sums the buckets of a gradient arena over all ranks while backward fills them. Buckets leave in one order on every rank, whatever
/// order backward completes them in there: collectives must match. In the first step it is the arena's, afterwards the one in which that
/// step's backward completed them on rank 0. One thread; arm() and finish() are collective.
class BucketReducer {
 public:
  /// `control`: the ranks that `sum` is over; for the order. `leaves`: see BucketHooks. Everything must outlive it.
  BucketReducer(Arena& arena, std::unique_ptr<BucketSum> sum, Communicator& control, int leaves = 0, const Clock& clock = Clock::steady());

  /// From the next step on: the sum of squares of what this rank gives is kept for each slot.
  void keep_squares();
  /// The next `backwards` backward passes make up one step; buckets leave during the last.
  void arm(int backwards, BucketHooks::Before before = BucketHooks::Before::forgotten);
  /// Sends what backward did not complete (unused parameters, an empty piece) and waits for all.
  void finish();
  const BucketSum& sum() const { return *sum_; }
  /// After finish(): the norm of what this rank gave, per slot of the arena.
  std::vector<double> own_norms() const;
  void forget() { sum_->forget(); }
  /// After finish(): this rank has found nothing in its part of the sum that is not finite. All ranks together look at everything.
  bool finite() const;
  /// Seconds that backward has spent on adding and sending since arm(): this rank's, and no computation.
  double seconds_in_backward() const { return seconds_in_backward_; }

 private:
  void on_ready(int bucket);
  void launch_ready();
  void note_squares(int bucket);
  void learn_order();

  Arena& arena_;
  std::unique_ptr<BucketSum> sum_;
  Communicator& control_;
  std::vector<int> order_;       // in which buckets leave
  std::vector<int> completed_;   // by the first step's backward, in its order
  bool learned_;
  std::vector<char> ready_;      // per bucket
  std::size_t next_ = 0;         // in order_
  const Clock& clock_;
  double seconds_in_backward_ = 0;
  std::vector<at::Tensor> squares_;   // per slot, where the arena is: on a device nobody waits; empty: nobody asks
  BucketHooks hooks_;
};

}  // namespace tugline
