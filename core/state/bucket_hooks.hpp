// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

namespace tugline {

class Arena;

/// Moves gradients into the arena as backward makes them, and tells when a bucket is full. Hooks every trainable parameter; takes the
/// hooks off again in the destructor. Runs on the thread that calls backward(), or on that of the arena's device. The arena must outlive it.
///
/// The first gradient of a step is copied into its place, later ones are added: nothing has to be zeroed before, and nothing is added to
/// zeros. While not armed it leaves backward alone. With `leaves` > 0 the passes of a step are added up pairwise instead (PairwiseSum), and
/// no bucket is ready before finish().
class BucketHooks {
 public:
  /// `ready` gets each bucket's number once per step, as its last gradient arrives; what it throws reaches backward().
  BucketHooks(Arena& arena, std::function<void(int bucket)> ready, int leaves = 0);
  ~BucketHooks();
  BucketHooks(const BucketHooks&) = delete;
  BucketHooks& operator=(const BucketHooks&) = delete;

  /// What the arena's gradients are worth when a step begins. `kept`: they are added to, but for those that were set to none.
  enum class Before { forgotten, kept };
  /// The next `backwards` passes make up one step; buckets are ready during the last. Until the first call, and after a step,
  /// nothing is reported. Binds gradients that were detached from the arena.
  void arm(int backwards, Before before = Before::forgotten);
  /// Ends the step: parameters that got no gradient have zero (or what was kept). Returns the buckets not reported since arm().
  std::vector<int> finish();
  /// All gradients of the step so far are finite: looked at while they are stored, when they pass through the cache anyway. Not those
  /// kept from before that got none. On the host alone; elsewhere it knows nothing and says yes.
  bool finite() const;

 private:
  void attach(std::size_t slot);
  void detach(std::size_t slot);
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace tugline
