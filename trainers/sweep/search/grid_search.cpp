// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/grid_search.hpp"

#include <limits>

#include "tugline/core/error.hpp"

namespace tugline::sweep {
namespace {

constexpr std::int64_t kMostPoints = 1 << 22;

/// Walks over the allowed points: an odometer whose wheels stand still while their dimension is not active.
class Walk {
 public:
  explicit Walk(const Space& space) : space_(space), point_(space.size()) { restart(); }

  void restart() {
    position_ = 0;
    reset_from(0);
    at_end_ = false;
    skip_forbidden();
  }
  void advance() {
    at_end_ = !turn();
    ++position_;
    skip_forbidden();
  }

  bool at_end() const { return at_end_; }
  std::int64_t position() const { return position_; }
  const Point& point() const { return point_; }

 private:
  bool turn() {
    for (std::size_t d = space_.size(); d-- > 0;) {
      if (point_[d] < space_.dimensions()[d].high) {   // false for NaN: not active
        ++point_[d];
        reset_from(d + 1);
        return true;
      }
    }
    return false;
  }
  void reset_from(std::size_t first) {
    for (std::size_t d = first; d < space_.size(); ++d) {
      point_[d] = space_.is_active(d, point_) ? space_.dimensions()[d].low : std::numeric_limits<double>::quiet_NaN();
    }
  }
  void skip_forbidden() {
    while (!at_end_ && space_.is_forbidden(point_)) at_end_ = !turn();
  }

  const Space& space_;
  Point point_;
  std::int64_t position_ = 0;   // among the allowed ones
  bool at_end_ = false;
};

void check_countable(const Space& space) {
  for (const Dimension& dimension : space.dimensions()) {
    if (dimension.levels() == 0) {
      throw ConfigError("space: " + dimension.key + " is a float, which has no grid: list its values as an ordinal, or search by sobol");
    }
  }
}

class GridSearch : public Search {
 public:
  explicit GridSearch(const Space& space) : walk_(space) {}

  Point suggest(std::int64_t number, std::span<const Observation>) override {
    if (number < walk_.position()) walk_.restart();
    while (!walk_.at_end() && walk_.position() < number) walk_.advance();
    if (walk_.at_end()) {
      throw ConfigError("the grid has only " + std::to_string(walk_.position()) + " points, so none for trial " + std::to_string(number));
    }
    return walk_.point();
  }

 private:
  Walk walk_;
};

}  // namespace

std::unique_ptr<Search> make_grid(const Space& space) {
  check_countable(space);
  return std::make_unique<GridSearch>(space);
}

std::int64_t grid_size(const Space& space) {
  check_countable(space);
  Walk walk(space);
  while (!walk.at_end() && walk.position() < kMostPoints) walk.advance();
  if (!walk.at_end()) {
    throw ConfigError("the grid has more than " + std::to_string(kMostPoints) + " points: list fewer values, or search by sobol");
  }
  return walk.position();
}

}  // namespace tugline::sweep
