// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tugline/trainers/sweep/search/gaussian_process.hpp"

namespace tugline::sweep {

/// log(phi(z) + z Phi(z)): the logarithm of the expected improvement over a best value z deviations above the mean, in units of the
/// deviation; and its derivative. Accurate however small (Ament et al. 2023, "Unexpected improvements to expected improvement for Bayesian
/// optimization").
struct LogImprovement {
  double value, slope;
};
LogImprovement log_improvement(double z);

/// The logarithm of how much less than `best` a value is expected to be, at each point.
Vector log_expected_improvement(const Beliefs& beliefs, double best);
/// At one point; fills its derivatives by the coordinates.
double log_expected_improvement(const Belief& belief, double best, Vector& slope);

}  // namespace tugline::sweep
