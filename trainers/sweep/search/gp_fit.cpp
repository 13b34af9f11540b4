// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/gp_fit.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "tugline/trainers/sweep/search/gaussian_process.hpp"
#include "tugline/trainers/sweep/search/minimise.hpp"

namespace tugline::sweep {
namespace {

/// Normal, of a logarithm; hard bounds beside it.
struct Prior {
  double mean, deviation, low, high;
};

/// Hvarfner et al. 2024, "Vanilla Bayesian optimization performs great in high dimensions": typical distances grow with the root of the
/// number of dimensions, so length scales do.
Prior length_scale_prior(int scales) {
  return {std::numbers::sqrt2 + 0.5 * std::log(static_cast<double>(scales)), std::numbers::sqrt3, std::log(0.01), std::log(1000.0)};
}
const Prior kNoise{-12, 4, std::log(1e-8), 0};   // without noise the kernel of close points would be singular
const Prior kBend{1, 2, std::log(1e-4), std::log(1e3)};
const Prior kWarp{0, 0.5, std::log(0.1), std::log(10.0)};
constexpr int kEvaluations = 60;
constexpr double kWarpGain = 4;   // in the logarithm of the posterior: a warp that explains less is not worth its freedom

Prior prior_of(const Hyperparameters& h, Eigen::Index i) {
  if (i < h.noise_index()) return length_scale_prior(h.layout.scales);
  if (i == h.noise_index()) return kNoise;
  return i == h.bend_index() ? kBend : kWarp;
}

double add_priors(const Hyperparameters& h, Vector* gradient) {
  double sum = 0;
  for (Eigen::Index i = 0; i < h.size(); ++i) {
    const Prior prior = prior_of(h, i);
    const double off = (h.theta[i] - prior.mean) / prior.deviation;
    sum += 0.5 * off * off;
    if (gradient) (*gradient)[i] += off / prior.deviation;
  }
  return sum;
}

}  // namespace

OutputWarp::OutputWarp(const Vector& values, double bend) {
  const double n = static_cast<double>(values.size());
  const Vector shifted = values.array() + bend;
  const Vector logs = shifted.array().log();
  const double mean = logs.mean();
  const double deviation = std::sqrt((logs.array() - mean).square().mean()) + 1e-12;
  t = (logs.array() - mean) / deviation;
  const Vector logs_slope = bend / shifted.array();
  const double deviation_slope = t.dot(logs_slope) / n;
  t_slope = (logs_slope.array() - logs_slope.mean() - t.array() * deviation_slope) / deviation;
  log_jacobian = -logs.sum() - n * std::log(deviation);
  jacobian_slope = -logs_slope.sum() - n * deviation_slope / deviation;
}

TrainingSet::TrainingSet(Matrix coordinates, const Vector& raw_values) : x(std::move(coordinates)) {
  values = raw_values.array() - raw_values.minCoeff();
  Vector sorted = values;
  std::sort(sorted.begin(), sorted.end());
  const double spread = sorted[sorted.size() / 2];
  values /= spread > 0 ? spread : std::max(sorted[sorted.size() - 1], 1e-300);
}

double negative_log_posterior(const Hyperparameters& at, const TrainingSet& data, Vector* gradient) {
  const Matrix z = scaled(at, data.x);
  Matrix slope;
  const Matrix kernel = signal_kernel(squared_distances(z, z), at.noise(), gradient ? &slope : nullptr);
  const Eigen::LLT<Matrix> cholesky(kernel);
  if (cholesky.info() != Eigen::Success) return std::numeric_limits<double>::infinity();
  const OutputWarp warp(data.values, at.bend());
  const Vector weights = cholesky.solve(warp.t);
  const SignalVariance variance(warp.t.dot(weights), data.values.size());
  double value = variance.minus_log_marginal + cholesky.matrixLLT().diagonal().array().log().sum() - warp.log_jacobian;
  if (gradient) {
    Matrix inverse = Matrix::Identity(z.rows(), z.rows());
    cholesky.solveInPlace(inverse);
    inverse -= weights * weights.transpose() / variance.mean;
    gradient->setZero(at.size());
    const Matrix pull = inverse.cwiseProduct(slope);
    const Vector sums = pull.rowwise().sum();
    add_scaling_gradient(at, data.x, 2 * (pull * z - sums.asDiagonal() * z), *gradient);
    (*gradient)[at.noise_index()] += 0.5 * at.noise() * inverse.trace();
    (*gradient)[at.bend_index()] += weights.dot(warp.t_slope) / variance.mean - warp.jacobian_slope;
  }
  value += add_priors(at, gradient);
  return value;
}

namespace {

struct Fitted {
  Hyperparameters at;
  double value;
};

Fitted fit_from(const Hyperparameters& start, const TrainingSet& data) {
  Box box{Vector(start.size()), Vector(start.size())};
  for (Eigen::Index i = 0; i < start.size(); ++i) {
    const Prior prior = prior_of(start, i);
    box.low[i] = prior.low;
    box.high[i] = prior.high;
  }
  const Differentiable objective = [&](const Vector& theta, Vector& gradient) {
    return negative_log_posterior({start.layout, theta}, data, &gradient);
  };
  const Minimum found = minimise(objective, start.theta, box, kEvaluations);
  return {{start.layout, found.x}, found.value};
}

}  // namespace

Hyperparameters fit(const KernelLayout& layout, const TrainingSet& data) {
  Hyperparameters start{layout, {}};
  std::fill(start.layout.warp.begin(), start.layout.warp.end(), -1);
  start.layout.warps = 0;
  start.theta.resize(start.size());
  for (Eigen::Index i = 0; i < start.size(); ++i) start.theta[i] = prior_of(start, i).mean;
  Fitted best = fit_from(start, data);
  start.theta.head(layout.scales).array() += std::log(0.1);
  if (Fitted shorter = fit_from(start, data); shorter.value < best.value) best = std::move(shorter);
  if (layout.warps == 0) return best.at;
  Hyperparameters warped{layout, Vector::Zero(Hyperparameters{layout, {}}.size())};
  warped.theta.head(best.at.size()) = best.at.theta;
  Fitted bent = fit_from(warped, data);
  return bent.value < best.value - kWarpGain ? bent.at : best.at;
}

}  // namespace tugline::sweep
