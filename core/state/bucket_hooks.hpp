// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <vector>

namespace tugline {

class Arena;

/// Tells when backward has filled a bucket of the arena. Hooks every trainable parameter; takes the hooks off again in the
/// destructor. Runs on the thread that calls backward() (CPU). The arena must outlive it.
class BucketHooks {
 public:
  /// `ready` gets each bucket's number once per step, as its last gradient arrives; what it throws reaches backward().
  BucketHooks(Arena& arena, std::function<void(int bucket)> ready);
  ~BucketHooks();
  BucketHooks(const BucketHooks&) = delete;
  BucketHooks& operator=(const BucketHooks&) = delete;

  /// The next `backwards` passes make up one step; buckets are ready during the last. Until the first call, and after a step,
  /// nothing is reported.
  void arm(int backwards);
  /// Buckets not reported since arm(): some of their parameters got no gradient.
  std::vector<int> unfinished() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace tugline
