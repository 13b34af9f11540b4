// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

namespace tugline {

class Arena;

/// Adds up the gradients of an arena over several backward passes as a fixed tree does: ((1 + 2) + (3 + 4)) + ..., so that whoever adds up
/// a half of the tree by itself gets the bits that the whole has there. Keeps log2(passes) copies of the gradients. Not thread-safe.
class PairwiseSum {
 public:
  /// `leaves`: of a full tree, a power of two.
  PairwiseSum(Arena& arena, int leaves);
  void clear();
  int count() const { return count_; }   ///< leaves since then
  /// The arena's gradients are the next leaf, and undefined afterwards.
  void push();
  /// The sum of the leaves since clear(), into the arena's gradients; leaves that are missing at the end are zero.
  void total();

 private:
  void add(std::size_t level);
  Arena& arena_;
  int leaves_, count_ = 0;
  std::vector<std::vector<at::Tensor>> levels_;   // per level, per dtype: the sum of 2^level leaves, where the bit of count_ is set
};

}  // namespace tugline
