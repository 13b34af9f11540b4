// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tugline/trainers/sweep/search/gp_kernel.hpp"

namespace tugline::sweep {

/// What the data say of the signal's variance, whose prior is inverse-gamma: t' K^-1 t is the data's square in units of the kernel.
struct SignalVariance {
  double mean;                 ///< of the posterior
  double minus_log_marginal;   ///< of the data, the determinant and constants left out

  SignalVariance(double data_square, Eigen::Index points);
};

/// The kernel of data in units of the signal's variance: Matern, a constant mean that is not known, and noise on the diagonal.
Matrix signal_kernel(const Matrix& squares, double noise, Matrix* slope);

/// Means and deviations at several points.
struct Beliefs {
  Vector mean, deviation;
};
/// At one point, and their derivatives by its coordinates.
struct Belief {
  double mean, deviation;
  Vector mean_slope, deviation_slope;
};

/// A Gaussian process that knows data: what it believes of other points, noise aside. Immutable.
class GaussianProcess {
 public:
  GaussianProcess(Hyperparameters hyperparameters, Matrix x, Vector t);

  Beliefs at(const Matrix& x) const;
  Belief at_point(const Vector& x) const;
  /// As if the points had been observed at their means (kriging believer; Ginsbourger et al. 2010, "Kriging is well-suited to parallelize
  /// optimization"): means stay, deviations shrink.
  GaussianProcess with_believed(const Matrix& x) const;

 private:
  GaussianProcess(Hyperparameters hyperparameters, Matrix x, Vector t, double variance);

  Hyperparameters hyperparameters_;
  Matrix x_, scaled_;   // [points, coordinates]
  Vector t_, weights_;
  Eigen::LLT<Matrix> cholesky_;
  double variance_ = 1;
};

}  // namespace tugline::sweep
