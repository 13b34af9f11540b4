// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tugline/trainers/sweep/search/gp_kernel.hpp"

namespace tugline::sweep {

/// Values -> what the process models: log(bend + value), to mean 0 and deviation 1. A large bend is a plain standardisation; a small one
/// spreads out what lies near the least. Monotone: the better stays the better.
struct OutputWarp {
  Vector t;                 ///< the warped values
  Vector t_slope;           ///< dt / d log(bend)
  double log_jacobian;      ///< sum of log(dt / dvalue)
  double jacobian_slope;    ///< d log_jacobian / d log(bend)

  OutputWarp(const Vector& values, double bend);
};

/// What the process learns from: coordinates in [0, 1], and values with their least subtracted, in units of their spread.
struct TrainingSet {
  Matrix x;
  Vector values;

  TrainingSet(Matrix x, const Vector& raw_values);
};

/// Minus the logarithm of the hyperparameters' posterior density, up to a constant; fills `gradient` unless it is null. The signal's
/// variance is integrated out (inverse-gamma prior), and so is a constant mean.
double negative_log_posterior(const Hyperparameters& at, const TrainingSet& data, Vector* gradient);

/// Where that is least, as found from a few fixed starts: a pure function of the data. Inputs are warped only where that pays: the result's
/// layout has no warps otherwise.
Hyperparameters fit(const KernelLayout& layout, const TrainingSet& data);

}  // namespace tugline::sweep
