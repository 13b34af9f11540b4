// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace tugline::sweep {

/// log(phi(z) + z Phi(z)): the logarithm of the expected improvement over a best value z deviations above the mean, in units of the
/// deviation; and its derivative. Accurate however small (Ament et al. 2023).
struct LogImprovement {
  double value, slope;
};
LogImprovement log_improvement(double z);

}  // namespace tugline::sweep
