// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/gp_kernel.hpp"

#include <algorithm>
#include <cmath>

namespace tugline::sweep {
namespace {

/// 1 - (1 - u^a)^b, and its derivatives by u and by the logarithms of a and b.
struct Bent {
  double value, by_u, by_log_a, by_log_b;
};
Bent bend(double u, double a, double b) {
  const double inside = std::clamp(u, 1e-9, 1 - 1e-9);   // the slope at the edges can be infinite
  const double power = std::pow(inside, a), rest = 1 - power;
  const double tail = std::pow(rest, b - 1);
  return {1 - tail * rest, a * b * power / inside * tail, a * b * power * std::log(inside) * tail, -b * tail * rest * std::log(rest)};
}

template <typename Visit>   // visit(row, coordinate, bent); coordinates without a warp are not visited
void for_each_bent(const Hyperparameters& h, const Matrix& x, Visit visit) {
  for (Eigen::Index k = 0; k < x.cols(); ++k) {
    const int warp = h.layout.warp[static_cast<std::size_t>(k)];
    if (warp < 0) continue;
    const double a = std::exp(h.theta[h.warp_index(warp)]), b = std::exp(h.theta[h.warp_index(warp) + 1]);
    for (Eigen::Index i = 0; i < x.rows(); ++i) visit(i, k, bend(x(i, k), a, b));
  }
}

double inverse_scale(const Hyperparameters& h, Eigen::Index coordinate) {
  return std::exp(-h.theta[h.layout.scale[static_cast<std::size_t>(coordinate)]]);
}

}  // namespace

double Hyperparameters::noise() const { return std::exp(theta[noise_index()]); }
double Hyperparameters::bend() const { return std::exp(theta[bend_index()]); }

Matrix scaled(const Hyperparameters& h, const Matrix& x) {
  Matrix z = x;
  for_each_bent(h, x, [&](auto i, auto k, const Bent& bent) { z(i, k) = bent.value; });
  for (Eigen::Index k = 0; k < x.cols(); ++k) z.col(k) *= inverse_scale(h, k);
  return z;
}

Matrix scaled_slope(const Hyperparameters& h, const Matrix& x) {
  Matrix slope = Matrix::Ones(x.rows(), x.cols());
  for_each_bent(h, x, [&](auto i, auto k, const Bent& bent) { slope(i, k) = bent.by_u; });
  for (Eigen::Index k = 0; k < x.cols(); ++k) slope.col(k) *= inverse_scale(h, k);
  return slope;
}

void add_scaling_gradient(const Hyperparameters& h, const Matrix& x, const Matrix& by_scaled, Vector& gradient) {
  const Matrix z = scaled(h, x);
  for (Eigen::Index k = 0; k < x.cols(); ++k) {
    gradient[h.layout.scale[static_cast<std::size_t>(k)]] -= by_scaled.col(k).dot(z.col(k));
  }
  for_each_bent(h, x, [&](auto i, auto k, const Bent& bent) {
    const Eigen::Index at = h.warp_index(h.layout.warp[static_cast<std::size_t>(k)]);
    const double by_value = by_scaled(i, k) * inverse_scale(h, k);
    gradient[at] += by_value * bent.by_log_a;
    gradient[at + 1] += by_value * bent.by_log_b;
  });
}

Matrix squared_distances(const Matrix& a, const Matrix& b) {
  Matrix distances = -2 * a * b.transpose();
  distances.colwise() += a.rowwise().squaredNorm();
  distances.rowwise() += b.rowwise().squaredNorm().transpose();
  return distances.cwiseMax(0);
}

Matrix matern(const Matrix& squares, Matrix* slope) {
  const Eigen::ArrayXXd r = (5 * squares.array()).sqrt();
  const Eigen::ArrayXXd decay = (-r).exp();
  if (slope) *slope = 5.0 / 6 * (1 + r) * decay;
  return (1 + r + 5.0 / 3 * squares.array()) * decay;
}

}  // namespace tugline::sweep
