// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Dense>
#include <vector>

namespace tugline::sweep {

using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;

/// How coordinates in [0, 1] become distances: some are bent, then each is divided by a length scale, which several may share.
struct KernelLayout {
  std::vector<int> scale;    ///< of each coordinate: which length scale
  std::vector<int> warp;     ///< of each coordinate: which warp; -1: none
  int scales = 0, warps = 0;
};

/// What is learned, as one vector of logarithms: the length scales; the noise, relative to the signal's variance; the bend of the output;
/// two exponents per input warp.
struct Hyperparameters {
  KernelLayout layout;
  Vector theta;

  Eigen::Index noise_index() const { return layout.scales; }
  Eigen::Index bend_index() const { return layout.scales + 1; }
  Eigen::Index warp_index(int warp) const { return layout.scales + 2 + 2 * warp; }
  Eigen::Index size() const { return warp_index(layout.warps); }
  double noise() const;
  double bend() const;
};

/// [points, coordinates] -> the same, bent (Snoek et al. 2014, "Input warping for Bayesian optimization of non-stationary functions", by
/// Kumaraswamy's distribution function) and divided by length scales.
Matrix scaled(const Hyperparameters& hyperparameters, const Matrix& x);
/// Its derivative by each coordinate.
Matrix scaled_slope(const Hyperparameters& hyperparameters, const Matrix& x);
/// Adds to `gradient` by theta what a function has whose gradient by scaled(x) is `by_scaled`.
void add_scaling_gradient(const Hyperparameters& hyperparameters, const Matrix& x, const Matrix& by_scaled, Vector& gradient);

/// Between the rows of `a` and those of `b`.
Matrix squared_distances(const Matrix& a, const Matrix& b);
/// The Matern-5/2 correlation at squared distances; `slope` gets minus its derivative by them unless it is null.
Matrix matern(const Matrix& squares, Matrix* slope);

}  // namespace tugline::sweep
