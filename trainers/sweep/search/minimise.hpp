// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Dense>
#include <functional>

namespace tugline::sweep {

/// Returns the value at x and fills the gradient.
using Differentiable = std::function<double(const Eigen::VectorXd& x, Eigen::VectorXd& gradient)>;

struct Box {
  Eigen::VectorXd low, high;
};

struct Minimum {
  Eigen::VectorXd x;
  double value;
};

/// The best point that a gradient search sees (NLopt's L-BFGS; Liu & Nocedal 1989, "On the limited memory BFGS method for large scale
/// optimization"), from `start` with so many evaluations at most. Deterministic. `function` must not throw.
Minimum minimise(const Differentiable& function, const Eigen::VectorXd& start, const Box& box, int evaluations);

}  // namespace tugline::sweep
