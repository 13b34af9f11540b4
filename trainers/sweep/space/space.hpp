// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace tugline::sweep {

/// One number that is searched. A repeated parameter has one per element: "model.hidden[2]".
struct Dimension {
  enum class Kind { real, integer, ordinal, choice };   ///< ordinal: ordered values; choice: none is between two others
  std::string key;
  Kind kind = Kind::real;
  double low = 0, high = 1;          ///< both included; of ordinal and choice indices into `values`: 0 and values.size() - 1
  bool log = false;                  ///< real and integer: equal ratios count alike; low > 0
  std::vector<std::string> values;   ///< of ordinal and choice, as a config has them
  std::vector<std::size_t> parents;  ///< dimensions before this one that decide whether it is active; empty: always is

  /// How many values there are; 0: not countable.
  std::int64_t levels() const { return kind == Kind::real ? 0 : static_cast<std::int64_t>(high - low) + 1; }
};

/// A value (real, integer) or an index (ordinal, choice) per dimension; NaN: not active, so it has no value.
using Point = std::vector<double>;

/// Where a value lies in [0, 1]: real ones from low to high, on a logarithmic scale where `log` says so; others in the middle of one of as
/// many equal cells (on a logarithmic scale: cells whose edges are at halves).
double to_unit(const Dimension& dimension, double value);
/// The value at `unit` in [0, 1], always inside the bounds. from_unit(to_unit(v)) is v for whole numbers.
double from_unit(const Dimension& dimension, double unit);

/// What is searched: dimensions, which of them are active when, and points that are not allowed. Immutable; any thread.
class Space {
 public:
  /// Whether a dimension is active, given the values of those before it.
  using Active = std::function<bool(std::size_t dimension, const Point& point)>;
  using Forbidden = std::function<bool(const Point& point)>;

  /// A dimension's parents come before it. `active` is only asked about dimensions that have parents.
  explicit Space(std::vector<Dimension> dimensions, Active active = {}, Forbidden forbidden = {});

  const std::vector<Dimension>& dimensions() const { return dimensions_; }
  std::size_t size() const { return dimensions_.size(); }
  bool is_active(std::size_t dimension, const Point& point) const;
  bool is_forbidden(const Point& point) const;
  /// A value for every dimension -> NaN for those that are not active.
  Point without_inactive(Point point) const;
  /// Coordinates in [0, 1], one per dimension -> a point.
  Point at(const std::vector<double>& unit) const;
  /// The point that (seed, number, attempt) alone decide: active dimensions are uniform on their scale, each from a stream of its own.
  /// It may be forbidden.
  Point draw(std::uint64_t seed, std::int64_t number, int attempt = 0) const;
  /// The coordinates of that point.
  std::vector<double> draw_unit(std::uint64_t seed, std::int64_t number, int attempt = 0) const;

 private:
  std::vector<Dimension> dimensions_;
  Active active_;
  Forbidden forbidden_;
};

inline constexpr int kDrawAttempts = 1000;   ///< after so many that are forbidden, all is taken to be

/// The first draw of (seed, number) that is not forbidden. Throws ConfigError when there is none among kDrawAttempts.
Point draw_allowed(const Space& space, std::uint64_t seed, std::int64_t number);

}  // namespace tugline::sweep
