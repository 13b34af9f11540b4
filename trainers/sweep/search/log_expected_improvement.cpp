// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/log_expected_improvement.hpp"

#include <cmath>
#include <numbers>

namespace tugline::sweep {

LogImprovement log_improvement(double z) {
  const double log_density = -0.5 * z * z - 0.5 * std::log(2 * std::numbers::pi);
  if (z < -25) {   // where erfc is about to vanish the asymptotic series is exact to ten digits
    const double s = 1 / (z * z);
    const double improvement = 1 - s * (3 - s * (15 - s * (105 - s * 945)));
    const double below = 1 - s * (1 - s * (3 - s * (15 - s * 105)));
    return {log_density + std::log(s) + std::log(improvement), -z * below / improvement};
  }
  const double below = 0.5 * std::erfc(-z / std::numbers::sqrt2);
  if (z > -1) {
    const double improvement = std::exp(log_density) + z * below;
    return {std::log(improvement), below / improvement};
  }
  const double mills = below * std::exp(-log_density);   // below / density, about 1 / |z|
  const double rest = 1 + z * mills;                     // loses digits as z^2 grows, a few at most down to -25
  return {log_density + std::log(rest), mills / rest};
}

Vector log_expected_improvement(const Beliefs& beliefs, double best) {
  Vector improvement(beliefs.mean.size());
  for (Eigen::Index i = 0; i < improvement.size(); ++i) {
    const double deviation = beliefs.deviation[i];
    improvement[i] = std::log(deviation) + log_improvement((best - beliefs.mean[i]) / deviation).value;
  }
  return improvement;
}

double log_expected_improvement(const Belief& belief, double best, Vector& slope) {
  const double z = (best - belief.mean) / belief.deviation;
  const LogImprovement improvement = log_improvement(z);
  const Vector z_slope = -(belief.mean_slope + z * belief.deviation_slope) / belief.deviation;
  slope = belief.deviation_slope / belief.deviation + improvement.slope * z_slope;
  return std::log(belief.deviation) + improvement.value;
}

}  // namespace tugline::sweep
