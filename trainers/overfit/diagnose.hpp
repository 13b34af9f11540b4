// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "tugline/trainers/overfit/attempt.hpp"
#include "tugline/trainers/overfit/finding.hpp"

namespace tugline {

/// What the training that failed looked like.
struct History {
  std::vector<OverfitEvaluation> evaluations;   ///< the first is that of the untrained model
  double last_train_loss = 0;                   ///< before the last step, in training mode
  bool diverged = false;                        ///< a loss or gradient was not finite
};

bool reaches_target(const OverfitConfig& target, const SampleSpec& spec, const OverfitEvaluation& evaluation);

/// How many steps beyond the allowed ones diagnose() may take to see whether the budget was the problem.
std::int64_t extra_steps(const OverfitConfig& config);

/// Collective. Why training failed, the most specific reason first. `attempt` stands at the failed training's end and has
/// extra_steps() left; the checks before training found nothing.
Finding diagnose(const GateSetup& setup, Attempt& attempt, LoneRank& lone, const History& history);

/// One learning rate tried for a few steps from the initial state.
struct LearningRateTrial {
  double lr = 0;
  double loss = 0;        ///< at the end; infinity where it was not finite
};
struct LearningRateScan {
  double initial_loss = 0;
  double loss_here = 0;   ///< with the config's own learning rate
  LearningRateTrial best;
  double lowest = 0, highest = 0;   ///< that were tried
  bool falls() const { return best.loss < 0.95 * initial_loss; }
  /// The best is clearly better than the config's own.
  bool better() const { return falls() && best.loss < 0.7 * loss_here; }
};
/// Collective. Powers of ten around the config's learning rate (around 0.1 where that is 0), four to each side and more where
/// it is far from any reasonable one.
LearningRateScan scan_learning_rates(const GateSetup& setup);

}  // namespace tugline
