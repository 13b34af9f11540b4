// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tugline/trainers/sweep/search/search.hpp"

namespace tugline::sweep {

/// A network as a sweep describes it: 1 to 5 layers, each with an operation and a width of its own, and a learning rate. Five layers of
/// operation 3 are forbidden.
inline Space architectures() {
  using Kind = Dimension::Kind;
  std::vector<Dimension> dimensions{{"optim.lr", Kind::real, 1e-5, 1e-1, true, {}, {}},
                                    {"model.layers", Kind::integer, 1, 5, false, {}, {}}};
  for (int i = 0; i < 5; ++i) {
    const std::string element = "[" + std::to_string(i) + "]";
    dimensions.push_back({"model.op" + element, Kind::choice, 0, 3, false, {"none", "skip", "conv", "pool"}, {1}});
    dimensions.push_back({"model.width" + element, Kind::integer, 8, 256, true, {}, {1}});
  }
  const auto active = [](std::size_t d, const Point& x) { return static_cast<double>((d - 2) / 2) < x[1]; };
  const auto forbidden = [](const Point& x) { return x[1] == 5 && x[2] == 3 && x[4] == 3; };
  return Space(std::move(dimensions), active, forbidden);
}

/// Least, 0, for four layers conv, conv, skip, conv of width 64 with a rate of 1e-3; what a layer is worth depends on the one before.
inline double architecture_error(const Point& x) {
  constexpr double kWanted[] = {2, 2, 1, 2};
  double error = 0.2 * std::abs(std::log10(x[0]) + 3) + 0.3 * std::abs(x[1] - 4);
  double before = 1;
  for (std::size_t i = 0; i < static_cast<std::size_t>(x[1]); ++i) {
    const double right = i < 4 && x[2 + 2 * i] == kWanted[i] ? 1 : 0;
    error += (1 - right) * (0.3 + 0.2 * before) + 0.1 * std::abs(std::log2(x[3 + 2 * i] / 64));
    before = right;
  }
  return error;
}

/// 3 values, then an operation that only some of them have, then 4 values; two are forbidden: 18 points.
inline Space few_points() {
  using Kind = Dimension::Kind;
  return Space({{"a", Kind::integer, 1, 3, false, {}, {}}, {"b", Kind::choice, 0, 1, false, {"x", "y"}, {0}},
                {"c", Kind::ordinal, 0, 3, false, {"1", "2", "4", "8"}, {}}},
               [](std::size_t, const Point& x) { return x[0] > 1; }, [](const Point& x) { return x[0] == 3 && x[2] == 3; });
}

/// Every kind of dimension: a rate, a whole number with so many values that it is climbed like a real one, a choice; a real that only the
/// choice's value 1 has, another choice that only its value 2 has; an ordinal. A fifth is forbidden.
inline Space mixed_space() {
  using Kind = Dimension::Kind;
  return Space({{"rate", Kind::real, 1e-4, 1, true, {}, {}}, {"width", Kind::integer, 1, 64, false, {}, {}},
                {"kind", Kind::choice, 0, 2, false, {"a", "b", "c"}, {}}, {"of_b", Kind::real, -1, 3, false, {}, {2}},
                {"of_c", Kind::choice, 0, 3, false, {"p", "q", "r", "s"}, {2}},
                {"depth", Kind::ordinal, 0, 4, false, {"1", "2", "4", "8", "16"}, {}}},
               [](std::size_t d, const Point& x) { return x[2] == static_cast<double>(d) - 2; },
               [](const Point& x) { return x[0] > 0.01 && x[1] > 38; });
}

/// Equal to the bit; NaN is equal to itself.
inline bool same(const Point& a, const Point& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t d = 0; d < a.size(); ++d) {
    if (!(a[d] == b[d] || (std::isnan(a[d]) && std::isnan(b[d])))) return false;
  }
  return true;
}

/// Inside the bounds, whole where it should be, a value exactly where a dimension is active, and not forbidden.
inline bool is_valid(const Space& space, const Point& point) {
  if (point.size() != space.size() || space.is_forbidden(point)) return false;
  for (std::size_t d = 0; d < space.size(); ++d) {
    const Dimension& dimension = space.dimensions()[d];
    if (space.is_active(d, point) == std::isnan(point[d])) return false;
    if (std::isnan(point[d])) continue;
    if (point[d] < dimension.low || point[d] > dimension.high) return false;
    if (dimension.levels() > 0 && point[d] != std::round(point[d])) return false;
  }
  return true;
}

/// `trials` suggestions in turn; of each trial when the next but one is asked for its value is known.
inline std::vector<Observation> searched(Search& search, const std::function<double(const Point&)>& evaluate, std::int64_t trials) {
  std::vector<Observation> history;
  for (std::int64_t number = 0; number < trials; ++number) {
    if (number >= 2) history[number - 2].value = evaluate(history[number - 2].point);
    history.push_back({number, search.suggest(number, history)});
  }
  return history;
}

/// The least value of those that are known.
inline double best_of(const std::vector<Observation>& history) {
  double best = std::numeric_limits<double>::infinity();
  for (const Observation& trial : history) best = std::fmin(best, trial.value);
  return best;
}

}  // namespace tugline::sweep
