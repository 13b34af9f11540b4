// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace tugline {

/// What the loss is multiplied by before backward, so that small gradients do not vanish in 16 bits (Micikevicius et al. 2018, "Mixed
/// Precision Training"): a power of two, halved when gradients overflow, doubled after 2000 steps without. Nothing but the decision: whoever
/// computes gradients scales them, and the optimizer's factor takes the scale back. Equal on all ranks, who see the same gradients.
class LossScale {
 public:
  static constexpr double kFirst = 65536, kLargest = 16777216;   // 2^16, 2^24
  static constexpr std::int64_t kStepsToGrow = 2000;

  /// Off (precision other than fp16): the scale is and stays 1.
  explicit LossScale(bool on) : scale_(on ? kFirst : 1), on_(on) {}

  double value() const { return scale_; }
  /// Gradients overflowed. False: the scale is no help, it is at 1.
  bool shrink();
  /// A step was made.
  void note_finite();

  /// As JSON, for a checkpoint; empty: off.
  std::string save() const;
  /// Takes up what save() wrote; an empty text changes nothing. Throws CheckpointError.
  void load(const std::string& text);

 private:
  double scale_;
  std::int64_t finite_steps_ = 0;   // since it changed
  bool on_;
};

}  // namespace tugline
