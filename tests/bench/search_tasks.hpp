// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tugline/trainers/sweep/space/space.hpp"

namespace tugline::sweep {

/// What searches are compared on: something to be made small, whose minimum is known.
struct SearchTask {
  std::string name;
  Space space;
  std::function<double(const Point&)> evaluate;
  double best = 0;    ///< the least value there is
  double range = 1;   ///< the largest value less the least one: what regrets are measured by
};

/// Functions of the literature: branin, hartmann6, ackley5, rosenbrock4, levy8, rastrigin5 and griewank6. Where the original has its
/// optimum in the centre it is shifted, so that nothing gains from trying the centre.
std::vector<SearchTask> function_tasks();

/// One of `tasks` by its name; throws UsageError where there is none.
const SearchTask& task_named(const std::vector<SearchTask>& tasks, std::string_view name);

}  // namespace tugline::sweep
