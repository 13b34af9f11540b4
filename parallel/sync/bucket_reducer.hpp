// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "tugline/core/state/bucket_hooks.hpp"
#include "tugline/parallel/sync/bucket_sum.hpp"

namespace tugline {

class Arena;

/// Sums the buckets of a gradient arena over all ranks while backward fills them. Buckets leave in the arena's order on
/// every rank, whatever order backward completes them in: collectives must match. One thread; arm() and finish() are collective.
class BucketReducer {
 public:
  /// `ranks`: how many `sum` is over. `leaves`: see BucketHooks.
  BucketReducer(Arena& arena, std::unique_ptr<BucketSum> sum, int ranks, int leaves = 0);

  /// The next `backwards` backward passes make up one step; buckets leave during the last.
  void arm(int backwards, BucketHooks::Before before = BucketHooks::Before::forgotten);
  /// Sends what backward did not complete (unused parameters, an empty piece) and waits for all.
  void finish();
  const BucketSum& sum() const { return *sum_; }
  void forget() { sum_->forget(); }
  /// After finish(): this rank has found nothing in its part of the sum that is not finite. All ranks together look at everything.
  bool finite() const { return alone_ ? hooks_.finite() : sum_->finite(); }

 private:
  void on_ready(int bucket);
  void launch_ready();

  std::unique_ptr<BucketSum> sum_;
  bool alone_;
  std::vector<char> ready_;
  std::size_t next_ = 0;
  BucketHooks hooks_;
};

}  // namespace tugline
