// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "tugline/parallel/balance/cut.hpp"

namespace tugline {

/// What is known of one rank's speed: what a step costs it, as a fixed part and a part per sample. At one share the two cannot be told
/// apart, so their sum is followed, robustly, and both are scaled with it; how they divide is learned from what a re-cut does: each is a
/// probe at a second size. A change of speed scales both. Only + - * / and square roots, so that all ranks compute the same bits.
class RankSpeed {
 public:
  /// How far a step may be from the expected time, relative, before it is more than noise; so many in a row on one side are a change.
  static constexpr double kJump = 0.2;
  static constexpr int kJumpSteps = 3;
  static constexpr std::int64_t kSettleSteps = 3;   ///< steps at a share before its time is known

  /// What continuing needs.
  struct Fit {
    StepCost cost{};
    double usual_sample_seconds = 0;   ///< as it was when the share was half of the usual one or more; 0: never yet
    double variance = 0.01;     ///< of steps around it, relative
    std::int64_t steps = 0;     ///< observed at this share and speed
  };

  /// `usual_share`: an equal one, at which no more than a part of a step is believed to be fixed.
  RankSpeed(std::int64_t share, std::int64_t usual_share) : share_(share), usual_share_(usual_share) {}
  /// Goes on from `fit`; what had not settled settles anew.
  RankSpeed(std::int64_t share, std::int64_t usual_share, const Fit& fit);

  /// A step at the present share took `seconds`. When this one shows that the speed has changed: by which factor steps take longer now; else 1.
  double observe(double seconds);
  /// Another share from now on.
  void move(std::int64_t share);

  bool known() const { return fit_.steps >= kSettleSteps; }
  const Fit& fit() const { return fit_; }
  const StepCost& cost() const { return fit_.cost; }
  double seconds() const { return fit_.cost.seconds(share_); }   ///< of a step at the present share
  /// Standard error of seconds(), relative.
  double uncertainty() const;

 private:
  bool has_usual_share() const { return 2 * share_ >= usual_share_; }
  void remember();
  void scale(double factor);
  void settle();
  void learn(double seconds);

  std::int64_t share_, usual_share_;
  Fit fit_;
  std::array<double, kJumpSteps> recent_{};   // the last ones
  int far_ = 0;                               // > 0: so many in a row were slower than noise; < 0: faster
  struct Anchor {                             // what was known at the share before; share 0: nothing
    std::int64_t share = 0;
    double seconds = 0, uncertainty = 0;
  } anchor_;
};

}  // namespace tugline
