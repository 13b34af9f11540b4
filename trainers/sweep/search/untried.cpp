// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/untried.hpp"

#include <algorithm>
#include <limits>

#include "tugline/trainers/sweep/search/random_search.hpp"

namespace tugline::sweep {
namespace {

constexpr int kAttempts = 200;
constexpr double kWalked = 1e6;   // points of a space that is looked through

/// Fills in the dimensions from `d` on, first values first, until the point is a new one.
bool complete(const Space& space, const PointSet& taken, std::size_t d, Point& point) {
  if (d == space.size()) return !taken.contains(point) && !space.is_forbidden(point);
  if (!space.is_active(d, point)) {
    point[d] = std::numeric_limits<double>::quiet_NaN();
    return complete(space, taken, d + 1, point);
  }
  for (double value = space.dimensions()[d].low; value <= space.dimensions()[d].high; ++value) {
    point[d] = value;
    if (complete(space, taken, d + 1, point)) return true;
  }
  return false;
}

}  // namespace

Point untried(const Space& space, std::uint64_t seed, std::int64_t number, const PointSet& taken) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    Point point = space.draw(seed, number, attempt);
    if (!taken.contains(point) && !space.is_forbidden(point)) return point;
  }
  double points = 1;   // at most
  for (const Dimension& dimension : space.dimensions()) {
    points *= dimension.levels() > 0 ? static_cast<double>(dimension.levels()) : std::numeric_limits<double>::infinity();
  }
  Point point(space.size());
  if (points <= kWalked && complete(space, taken, 0, point)) return point;
  return first_allowed(space, [&](int attempt) { return space.draw(seed, number, attempt); });
}

}  // namespace tugline::sweep
