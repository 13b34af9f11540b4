// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>

#include "tugline/trainers/overfit/diagnose.hpp"

namespace tugline {
namespace {

constexpr std::int64_t kSteps = 40;
constexpr double kReach = 1e4;                     // to each side of the rate in use
constexpr double kSmallest = 1e-4, kLargest = 1;   // seen at least: one of these is reasonable whatever the rate in use is

struct Outcome {
  double first = 0, last = 0;
};

Outcome train_briefly(const GateSetup& setup, double lr) {
  OptimConfig optim = setup.config.optim;
  optim.lr = lr;
  Attempt attempt(setup, optim, kSteps);
  Outcome outcome;
  for (std::int64_t i = 0; i < kSteps; ++i) {
    const StepFacts facts = attempt.step();
    if (i == 0) outcome.first = facts.steps.front().loss;
    outcome.last = facts.finite ? facts.steps.front().loss : std::numeric_limits<double>::infinity();
    if (!facts.finite) break;
  }
  return outcome;
}

}  // namespace

LearningRateScan scan_learning_rates(const GateSetup& setup) {
  const double own = setup.config.optim.lr;
  const double centre = own > 0 ? own : 0.1;
  LearningRateScan scan;
  scan.best.loss = std::numeric_limits<double>::infinity();
  const auto decades_to = [&](double lr) { return static_cast<int>(std::lround(std::log10(lr / centre))); };
  const int first = decades_to(std::min(centre / kReach, kSmallest)), last = decades_to(std::max(centre * kReach, kLargest));
  scan.lowest = centre * std::pow(10.0, first);
  scan.highest = centre * std::pow(10.0, last);
  for (int decade = first; decade <= last; ++decade) {
    const double lr = centre * std::pow(10.0, decade);
    const Outcome outcome = train_briefly(setup, lr);
    scan.initial_loss = outcome.first;
    if (decade == 0) scan.loss_here = own > 0 ? outcome.last : outcome.first;
    if (outcome.last < scan.best.loss) scan.best = {lr, outcome.last};
  }
  return scan;
}

}  // namespace tugline
