// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/state/pairwise_sum.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "tugline/core/state/arena.hpp"

namespace tugline {

PairwiseSum::PairwiseSum(Arena& arena, int leaves) : arena_(arena), leaves_(leaves) {}

void PairwiseSum::clear() { count_ = 0; }

void PairwiseSum::add(std::size_t level) {
  for (std::size_t f = 0; f < arena_.flats().size(); ++f) {
    if (arena_.flats()[f].gradients.defined()) at::Tensor(arena_.flats()[f].gradients).add_(levels_[level][f]);
  }
}

void PairwiseSum::push() {
  const at::NoGradGuard no_grad;
  std::size_t level = 0;
  for (; (count_ >> level) & 1; ++level) add(level);
  if (level == levels_.size()) {
    levels_.emplace_back();
    for (const auto& flat : arena_.flats()) levels_[level].push_back(flat.gradients.defined() ? at::empty_like(flat.gradients) : at::Tensor());
  }
  for (std::size_t f = 0; f < arena_.flats().size(); ++f) {
    if (levels_[level][f].defined()) levels_[level][f].copy_(arena_.flats()[f].gradients);
  }
  ++count_;
}

void PairwiseSum::total() {
  const at::NoGradGuard no_grad;
  // Zeros for missing leaves: they change nothing but the sign of a zero, which another cut of the same tree would change too.
  if (count_ < leaves_) {
    for (const auto& flat : arena_.flats()) {
      if (flat.gradients.defined()) at::Tensor(flat.gradients).zero_();
    }
  }
  bool filled = count_ < leaves_;
  for (std::size_t level = 0; (count_ >> level) != 0; ++level) {
    if (((count_ >> level) & 1) == 0) continue;
    if (filled) {
      add(level);
      continue;
    }
    filled = true;
    for (std::size_t f = 0; f < arena_.flats().size(); ++f) {
      if (levels_[level][f].defined()) at::Tensor(arena_.flats()[f].gradients).copy_(levels_[level][f]);
    }
  }
}

}  // namespace tugline
