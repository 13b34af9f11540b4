// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/space/expression.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tugline::sweep {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

void Expression::renumber(std::span<const std::size_t> to) {
  for (Node& node : nodes_) {
    if (node.op == Op::name) node.dimension = to[node.dimension];
  }
  for (std::size_t& dimension : dimensions_) dimension = to[dimension];
  std::ranges::sort(dimensions_);
}

Expression::Range Expression::range(std::size_t index, const Point& low, const Point& high) const {
  const Node& node = nodes_[index];
  switch (node.op) {
    case Op::number:
      return {node.number, node.number};
    case Op::name:
      return name(node, {low[node.dimension], high[node.dimension]});
    case Op::negate: {
      const Range truth = range(node.left, low, high);
      return {1 - truth.high, 1 - truth.low};
    }
    default:
      return combine(node.op, range(node.left, low, high), range(node.right, low, high));
  }
}

Expression::Range Expression::name(const Node& node, Range index) {
  if (node.table.empty() || std::isnan(index.low)) return index;
  const auto first = node.table.begin();
  const auto [least, most] =
      std::minmax_element(first + static_cast<std::ptrdiff_t>(index.low), first + static_cast<std::ptrdiff_t>(index.high) + 1);
  return {*least, *most};
}

// Interval arithmetic (Moore 1966). With ranges of one number each this is plain evaluation; NaN makes every comparison false.
Expression::Range Expression::combine(Op op, Range a, Range b) {
  const bool points = a.low == a.high && b.low == b.high;
  const auto hull = [](double p, double q, double r, double s) { return Range{std::min({p, q, r, s}), std::max({p, q, r, s})}; };
  const auto truth = [](bool surely, bool maybe) { return Range{surely ? 1.0 : 0.0, maybe ? 1.0 : 0.0}; };
  if (std::isnan(a.low) || std::isnan(b.low)) return op < Op::equal ? Range{std::nan(""), std::nan("")} : truth(false, false);
  // An operand that is infinite somewhere is so by a division by zero: anything may come of it.
  if (!points && op < Op::equal && !(std::isfinite(a.low) && std::isfinite(a.high) && std::isfinite(b.low) && std::isfinite(b.high))) {
    return {-kInfinity, kInfinity};
  }
  switch (op) {
    case Op::add:
      return {a.low + b.low, a.high + b.high};
    case Op::subtract:
      return {a.low - b.high, a.high - b.low};
    case Op::multiply:
      return hull(a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high);
    case Op::divide:
      if (!points && b.low <= 0 && b.high >= 0) return {-kInfinity, kInfinity};
      return hull(a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high);
    case Op::remainder:
      return points ? Range{std::fmod(a.low, b.low), std::fmod(a.low, b.low)} : Range{-kInfinity, kInfinity};
    case Op::equal:
      return truth(points && a.low == b.low, a.low <= b.high && b.low <= a.high);
    case Op::unequal:
      return truth(a.high < b.low || b.high < a.low, !(points && a.low == b.low));
    case Op::less:
      return truth(a.high < b.low, a.low < b.high);
    case Op::less_equal:
      return truth(a.high <= b.low, a.low <= b.high);
    case Op::both:
      return {std::min(a.low, b.low), std::min(a.high, b.high)};
    default:
      return {std::max(a.low, b.low), std::max(a.high, b.high)};
  }
}

}  // namespace tugline::sweep
