// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/space/space.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tugline/core/error.hpp"
#include "tugline/core/random.hpp"

namespace tugline::sweep {
namespace {

/// Edges of the scale. Whole numbers have cells around them, so that all are as likely.
struct Scale {
  double low, high;
};
Scale scale_of(const Dimension& dimension) {
  const double half = dimension.kind == Dimension::Kind::real ? 0.0 : 0.5;
  const Scale edges{dimension.low - half, dimension.high + half};
  return dimension.log ? Scale{std::log(edges.low), std::log(edges.high)} : edges;
}

}  // namespace

double to_unit(const Dimension& dimension, double value) {
  const Scale scale = scale_of(dimension);
  if (scale.high <= scale.low) return 0.5;
  return std::clamp(((dimension.log ? std::log(value) : value) - scale.low) / (scale.high - scale.low), 0.0, 1.0);
}

double from_unit(const Dimension& dimension, double unit) {
  const Scale scale = scale_of(dimension);
  double value = scale.low + std::clamp(unit, 0.0, 1.0) * (scale.high - scale.low);
  if (dimension.log) value = std::exp(value);
  if (dimension.kind != Dimension::Kind::real) value = std::floor(value + 0.5);
  return std::clamp(value, dimension.low, dimension.high);
}

Space::Space(std::vector<Dimension> dimensions, Active active, Forbidden forbidden)
    : dimensions_(std::move(dimensions)), active_(std::move(active)), forbidden_(std::move(forbidden)) {}

bool Space::is_active(std::size_t dimension, const Point& point) const {
  return dimensions_[dimension].parents.empty() || active_(dimension, point);
}

bool Space::is_forbidden(const Point& point) const { return forbidden_ && forbidden_(point); }

Point Space::without_inactive(Point point) const {
  for (std::size_t d = 0; d < size(); ++d) {
    if (!is_active(d, point)) point[d] = std::numeric_limits<double>::quiet_NaN();
  }
  return point;
}

Point Space::at(const std::vector<double>& unit) const {
  Point point(size());
  for (std::size_t d = 0; d < size(); ++d) point[d] = from_unit(dimensions_[d], unit[d]);
  return without_inactive(std::move(point));
}

Point Space::draw(std::uint64_t seed, std::int64_t number, int attempt) const { return at(draw_unit(seed, number, attempt)); }

std::vector<double> Space::draw_unit(std::uint64_t seed, std::int64_t number, int attempt) const {
  std::vector<double> unit(size());
  for (std::size_t d = 0; d < size(); ++d) {
    Random random(seed, Purpose::search, static_cast<std::uint64_t>(number), d);
    for (int skipped = 0; skipped <= attempt; ++skipped) unit[d] = random.uniform();
  }
  return unit;
}

Point draw_allowed(const Space& space, std::uint64_t seed, std::int64_t number) {
  for (int attempt = 0; attempt < kDrawAttempts; ++attempt) {
    Point point = space.draw(seed, number, attempt);
    if (!space.is_forbidden(point)) return point;
  }
  throw ConfigError(fmt::format("forbid leaves nothing: all of {} points drawn at random are forbidden", kDrawAttempts));
}

}  // namespace tugline::sweep
