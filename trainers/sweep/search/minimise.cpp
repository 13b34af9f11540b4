// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/minimise.hpp"

#include <nlopt.h>

#include <cmath>
#include <limits>
#include <memory>

namespace tugline::sweep {
namespace {

struct Problem {
  const Differentiable& function;
  Eigen::VectorXd best_x, x, gradient;
  double least = std::numeric_limits<double>::infinity();
};

double evaluate(unsigned n, const double* x, double* gradient, void* data) {
  Problem& problem = *static_cast<Problem*>(data);
  problem.x = Eigen::Map<const Eigen::VectorXd>(x, n);
  const double value = problem.function(problem.x, problem.gradient);
  if (gradient) Eigen::Map<Eigen::VectorXd>(gradient, n) = problem.gradient;
  if (value < problem.least) {
    problem.least = value;
    problem.best_x = problem.x;
  }
  return value;
}

}  // namespace

Minimum minimise(const Differentiable& function, const Eigen::VectorXd& start, const Box& box, int evaluations) {
  const auto n = static_cast<unsigned>(start.size());
  Problem problem{function, start, start, Eigen::VectorXd::Zero(n)};
  const std::unique_ptr<nlopt_opt_s, decltype(&nlopt_destroy)> search(nlopt_create(NLOPT_LD_LBFGS, n), &nlopt_destroy);
  nlopt_set_lower_bounds(search.get(), box.low.data());
  nlopt_set_upper_bounds(search.get(), box.high.data());
  nlopt_set_min_objective(search.get(), evaluate, &problem);
  nlopt_set_maxeval(search.get(), evaluations);
  nlopt_set_ftol_abs(search.get(), 1e-4);
  Eigen::VectorXd x = start.cwiseMax(box.low).cwiseMin(box.high);
  double value = 0;
  nlopt_optimize(search.get(), x.data(), &value);   // its result says how it ended; the best point seen is what counts
  return {problem.best_x, problem.least};
}

}  // namespace tugline::sweep
