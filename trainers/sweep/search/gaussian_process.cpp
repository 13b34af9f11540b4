// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/gaussian_process.hpp"

#include <cmath>
#include <utility>

namespace tugline::sweep {
namespace {

constexpr double kMeanVariance = 1;              // of the constant mean, in units of the signal's variance
constexpr double kShape = 1, kRate = 1;          // of the prior of the signal's variance
constexpr double kLeastVariance = 1e-14;         // rounding leaves no less of a kernel of size 1

Matrix cross_kernel(const Matrix& squares, Matrix* slope) { return matern(squares, slope).array() + kMeanVariance; }

}  // namespace

SignalVariance::SignalVariance(double data_square, Eigen::Index points) {
  const double shape = kShape + 0.5 * static_cast<double>(points), rate = kRate + 0.5 * data_square;
  mean = rate / shape;
  minus_log_marginal = shape * std::log(rate);
}

Matrix signal_kernel(const Matrix& squares, double noise, Matrix* slope) {
  Matrix kernel = cross_kernel(squares, slope);
  kernel.diagonal().array() += noise;
  return kernel;
}

GaussianProcess::GaussianProcess(Hyperparameters hyperparameters, Matrix x, Vector t)
    : GaussianProcess(std::move(hyperparameters), std::move(x), std::move(t), 0) {
  variance_ = SignalVariance(t_.dot(weights_), t_.size()).mean;
}

GaussianProcess::GaussianProcess(Hyperparameters hyperparameters, Matrix x, Vector t, double variance)
    : hyperparameters_(std::move(hyperparameters)),
      x_(std::move(x)),
      scaled_(scaled(hyperparameters_, x_)),
      t_(std::move(t)),
      cholesky_(signal_kernel(squared_distances(scaled_, scaled_), hyperparameters_.noise(), nullptr)),
      variance_(variance) {
  weights_ = cholesky_.solve(t_);
}

Beliefs GaussianProcess::at(const Matrix& x) const {
  Matrix cross = cross_kernel(squared_distances(scaled_, scaled(hyperparameters_, x)), nullptr);   // [known, asked]
  const Vector mean = cross.transpose() * weights_;
  cholesky_.matrixL().solveInPlace(cross);
  const Vector left = 1 + kMeanVariance - cross.colwise().squaredNorm().transpose().array();
  return {mean, (variance_ * left.cwiseMax(kLeastVariance)).cwiseSqrt()};
}

Belief GaussianProcess::at_point(const Vector& x) const {
  const Matrix row = x.transpose();
  const Matrix asked = scaled(hyperparameters_, row);
  Matrix slope;
  const Vector cross = cross_kernel(squared_distances(scaled_, asked), &slope);
  const Vector solved = cholesky_.solve(cross);
  const double left = 1 + kMeanVariance - cross.dot(solved);
  const double deviation = std::sqrt(variance_ * std::max(left, kLeastVariance));
  // d cross_i / d asked = -2 slope_i (asked - known_i)
  const Matrix away = (scaled_.rowwise() - asked.row(0)).array().colwise() * (2 * slope.col(0).array());   // [known, coordinates]
  const Vector by_coordinate = scaled_slope(hyperparameters_, row).transpose();
  const double by_left = left > kLeastVariance ? -variance_ / deviation : 0;
  return {cross.dot(weights_), deviation, (away.transpose() * weights_).cwiseProduct(by_coordinate),
          by_left * (away.transpose() * solved).cwiseProduct(by_coordinate)};
}

GaussianProcess GaussianProcess::with_believed(const Matrix& x) const {
  Matrix all(x_.rows() + x.rows(), x_.cols());
  all << x_, x;
  Vector targets(all.rows());
  targets << t_, at(x).mean;
  return GaussianProcess(hyperparameters_, std::move(all), std::move(targets), variance_);
}

}  // namespace tugline::sweep
