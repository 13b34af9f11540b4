// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "tugline/parallel/balance/cut.hpp"

namespace tugline {

/// What is known of one rank's speed: the time of its steps at its present share, followed robustly, and how much of that would stay if
/// the share went to nothing. At one share those two parts of an affine cost cannot be told apart, so the second is learned from
/// what a re-cut does: each is a probe at a second size. A change of speed scales both. Only + - * / and square roots, so that all
/// ranks compute the same bits.
class RankSpeed {
 public:
  /// How far a step may be from the expected time, relative, before it is more than noise; so many in a row on one side are a change.
  static constexpr double kJump = 0.2;
  static constexpr int kJumpSteps = 3;
  static constexpr std::int64_t kSettleSteps = 3;   ///< steps at a share before its time is known

  /// What continuing needs.
  struct Fit {
    double seconds = 0;         ///< of a step at the present share
    double fixed_seconds = 0;   ///< of them: whatever the share
    double variance = 0.01;     ///< of steps around `seconds`, relative
    std::int64_t steps = 0;     ///< observed at this share and speed
  };

  explicit RankSpeed(std::int64_t share) : share_(share) {}
  RankSpeed(std::int64_t share, const Fit& fit) : share_(share), fit_(fit) {}

  /// A step at the present share took `seconds`. When this one shows that the speed has changed: by which factor steps take longer now; else 1.
  double observe(double seconds);
  /// Another share from now on.
  void move(std::int64_t share);

  bool known() const { return fit_.steps >= kSettleSteps; }
  const Fit& fit() const { return fit_; }
  StepCost cost() const;
  /// Standard error of fit().seconds, relative.
  double uncertainty() const;

 private:
  void learn_fixed_part();

  std::int64_t share_;
  Fit fit_;
  std::array<double, kJumpSteps> recent_{};   // the last ones
  int far_ = 0;                               // > 0: so many in a row were slower than noise; < 0: faster
  struct Anchor {                             // what was known at the share before; share 0: nothing
    std::int64_t share = 0;
    double seconds = 0, uncertainty = 0;
  } anchor_;
};

}  // namespace tugline
