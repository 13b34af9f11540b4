// SPDX-License-Identifier: Apache-2.0
// The functions' forms, domains and minima: Surjanovic & Bingham, Virtual Library of Simulation Experiments (sfu.ca/~ssurjano).
#include "tugline/tests/bench/search_tasks.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "tugline/core/error.hpp"

namespace tugline::sweep {
namespace {

using std::numbers::pi;

double squared(double x) { return x * x; }

Dimension real(std::string key, double low, double high) { return {std::move(key), Dimension::Kind::real, low, high, false, {}, {}}; }

Space box(std::size_t dimensions, double low, double high) {
  std::vector<Dimension> all;
  for (std::size_t d = 0; d < dimensions; ++d) all.push_back(real("x" + std::to_string(d), low, high));
  return Space(std::move(all));
}

/// `x` less a place off the centre, another one in every dimension: between 0.1 and 0.3 of the domain's width away from it.
Point shifted(const Point& x, double width) {
  constexpr std::array kOffsets{0.21, -0.13, 0.28, -0.24, 0.17, -0.1};
  Point from_optimum(x.size());
  for (std::size_t d = 0; d < x.size(); ++d) from_optimum[d] = x[d] - kOffsets[d] * width;
  return from_optimum;
}

double branin(const Point& x) {
  const double bow = x[1] - 5.1 / (4 * pi * pi) * squared(x[0]) + 5 / pi * x[0] - 6;
  return squared(bow) + 10 * (1 - 1 / (8 * pi)) * std::cos(x[0]) + 10;
}

double hartmann6(const Point& x) {
  constexpr std::array kAlpha{1.0, 1.2, 3.0, 3.2};
  constexpr double kA[4][6] = {{10, 3, 17, 3.5, 1.7, 8}, {0.05, 10, 17, 0.1, 8, 14}, {3, 3.5, 1.7, 10, 17, 8}, {17, 8, 0.05, 10, 0.1, 14}};
  constexpr double kP[4][6] = {{0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886},
                               {0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991},
                               {0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650},
                               {0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381}};
  double sum = 0;
  for (int i = 0; i < 4; ++i) {
    double exponent = 0;
    for (int d = 0; d < 6; ++d) exponent += kA[i][d] * squared(x[d] - kP[i][d]);
    sum -= kAlpha[i] * std::exp(-exponent);
  }
  return sum;
}

double ackley(const Point& x) {
  double squares = 0, cosines = 0;
  for (const double z : shifted(x, 65.536)) {
    squares += z * z;
    cosines += std::cos(2 * pi * z);
  }
  const double n = static_cast<double>(x.size());
  return -20 * std::exp(-0.2 * std::sqrt(squares / n)) - std::exp(cosines / n) + 20 + std::numbers::e;
}

double rosenbrock(const Point& x) {
  double sum = 0;
  for (std::size_t d = 0; d + 1 < x.size(); ++d) sum += 100 * squared(x[d + 1] - x[d] * x[d]) + squared(x[d] - 1);
  return sum;
}

double levy(const Point& x) {
  const auto w = [&](std::size_t d) { return 1 + (x[d] - 1) / 4; };
  const double last = w(x.size() - 1);
  double sum = squared(std::sin(pi * w(0))) + squared(last - 1) * (1 + squared(std::sin(2 * pi * last)));
  for (std::size_t d = 0; d + 1 < x.size(); ++d) sum += squared(w(d) - 1) * (1 + 10 * squared(std::sin(pi * w(d) + 1)));
  return sum;
}

double rastrigin(const Point& x) {
  double sum = 0;
  for (const double z : shifted(x, 10.24)) sum += z * z - 10 * std::cos(2 * pi * z) + 10;
  return sum;
}

double griewank(const Point& x) {
  double sum = 0, product = 1, d = 0;
  for (const double z : shifted(x, 1200)) {
    sum += z * z / 4000;
    product *= std::cos(z / std::sqrt(++d));
  }
  return sum - product + 1;
}

}  // namespace

std::vector<SearchTask> function_tasks() {
  // The largest values are from the corners and from many points near them, polished.
  return {{"branin", Space({real("x0", -5, 10), real("x1", 0, 15)}), branin, 0.39788735772973816, 307.731},
          {"hartmann6", box(6, 0, 1), hartmann6, -3.32236801141551, 3.32237},
          {"ackley5", box(5, -32.768, 32.768), ackley, 0, 22.348},
          {"rosenbrock4", box(4, -5, 10), rosenbrock, 0, 2.72274e6},
          {"levy8", box(8, -10, 10), levy, 0, 568.93},
          {"rastrigin5", box(5, -5.12, 5.12), rastrigin, 0, 340.83},
          {"griewank6", box(6, -600, 600), griewank, 0, 1032.71}};
}

const SearchTask& task_named(const std::vector<SearchTask>& tasks, std::string_view name) {
  const auto found = std::find_if(tasks.begin(), tasks.end(), [&](const SearchTask& task) { return task.name == name; });
  if (found == tasks.end()) throw UsageError("there is no task '" + std::string(name) + "'");
  return *found;
}

}  // namespace tugline::sweep
