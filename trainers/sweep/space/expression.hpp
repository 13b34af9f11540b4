// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/space/space.hpp"

namespace tugline::sweep {

/// What is wrong with an expression, and in which of its columns, from 1.
class ExpressionError : public ConfigError {
 public:
  ExpressionError(const std::string& what, int column) : ConfigError(what), column_(column) {}
  int column() const noexcept { return column_; }

 private:
  int column_;
};

/// A condition on a point, such as "optim.name == sgd and model.layers * data.batch <= 512": parsed once, evaluated often.
///
///   or, and, not, == != < <= > >=, in [a, b], + - * / %, ( ), numbers, true, false, 'text', and keys of the space
///
/// On the right of a comparison and in a list a word that is no key is a text. Ordinals and choices have the type of their values. A
/// comparison with a dimension that is not active is false, != too; so is an inactive true or false. Immutable after renumber; any thread.
class Expression {
 public:
  /// `element` is what `i` stands for, also in "x[i]". Throws ExpressionError.
  Expression(std::string_view text, std::span<const Dimension> dimensions, std::optional<std::int64_t> element = std::nullopt);

  bool holds(const Point& point) const { return must_hold(point, point); }
  /// Of all points between two: whether it may hold in one, errs on the side of yes; whether it holds in all, errs on the side of no.
  /// NaN in both: not active.
  bool may_hold(const Point& low, const Point& high) const { return range(root_, low, high).high == 1; }
  bool must_hold(const Point& low, const Point& high) const { return range(root_, low, high).low == 1; }

  /// The dimensions it speaks of, ascending.
  const std::vector<std::size_t>& dimensions() const { return dimensions_; }
  /// Dimension d has become to[d].
  void renumber(std::span<const std::size_t> to);

 private:
  friend class ExpressionParser;
  enum class Op { number, name, add, subtract, multiply, divide, remainder, equal, unequal, less, less_equal, both, either, negate };
  struct Node {
    Op op = Op::number;
    std::size_t left = 0, right = 0;   // nodes before this one
    double number = 0;
    std::size_t dimension = 0;
    std::vector<double> table{};       // name: a number per index; empty: the value itself. A text is the number of its first appearance
  };
  /// Numbers, or truths: 0 no, 1 yes, from 0 to 1 either. NaN: not active.
  struct Range {
    double low, high;
  };
  Range range(std::size_t node, const Point& low, const Point& high) const;
  static Range name(const Node& node, Range index);
  static Range combine(Op op, Range a, Range b);

  std::vector<Node> nodes_;
  std::size_t root_ = 0;
  std::vector<std::size_t> dimensions_;
};

}  // namespace tugline::sweep
