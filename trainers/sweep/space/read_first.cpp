// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tugline/core/config/nearest.hpp"
#include "tugline/core/config/scalar.hpp"
#include "tugline/trainers/sweep/space/rules.hpp"
#include "tugline/trainers/sweep/space/value_text.hpp"

namespace tugline::sweep {
namespace {

using config::Tree;
using Kind = Dimension::Kind;

std::optional<double> value_in(const Dimension& dimension, const Tree& value) {
  if (!dimension.values.empty()) {
    const std::optional<double> number = as_number(value);   // 32 and 32.0 are the same
    for (std::size_t v = 0; v < dimension.values.size(); ++v) {
      const bool equal = number && number == as_number(value_tree(dimension.values[v]));
      if (equal || dimension.values[v] == value_text(value)) return static_cast<double>(v);
    }
    return std::nullopt;
  }
  const std::optional<double> number = as_number(value);
  const bool good = number && *number >= dimension.low && *number <= dimension.high;
  return good && (dimension.kind == Kind::real || std::trunc(*number) == *number) ? number : std::nullopt;
}

std::string wanted(const Dimension& dimension) {
  if (!dimension.values.empty()) return fmt::format("one of {}", fmt::join(dimension.values, ", "));
  const std::string_view noun = dimension.kind == Kind::real ? "a number" : "a whole number";
  return fmt::format("{} from {} to {}", noun, dimension.low, dimension.high);
}

/// One entry: which values stand where, and what follows from them.
class FirstPoint {
 public:
  FirstPoint(const Rules& rules, const std::vector<ReadParameter>& parameters, std::string key, config::Problems& problems)
      : rules_(rules), parameters_(parameters), key_(std::move(key)), problems_(problems), given_(rules.dimensions.size()) {}

  PartialPoint read(const Tree& entry) && {
    if (entry.kind != Tree::Kind::map) {
      problems_.add(entry.place, key_, fmt::format("expected keys with values, found {}", found(entry)));
      return {};
    }
    for (const Tree& child : entry.children) read_key(child);
    const bool open = follow();
    if (!open && good_) check_forbidden(entry);
    return std::move(point_);
  }

 private:
  struct Given {
    const Tree* tree = nullptr;
    double value = 0;
  };

  void refuse(const config::Place& place, const std::string& key, const std::string& sentence) {
    problems_.add(place, fmt::format("{}.{}", key_, key), sentence);
    good_ = false;
  }

  void read_key(const Tree& child) {
    std::vector<std::string_view> keys;
    for (std::size_t d = 0; d < rules_.dimensions.size(); ++d) {
      const std::string& key = rules_.dimensions[d].key;
      if (key == child.key) return read_value(d, child, child.key);
      keys.push_back(key);
    }
    const auto is_told = [&](const ReadParameter& one) { return one.broken && list_key(one.tree->key) == child.key; };
    if (std::ranges::any_of(parameters_, is_told)) return;
    if (child.kind != Tree::Kind::list || !dimension_of(child.key, 0)) {
      return refuse(child.key_place, child.key, "not in the space" + config::did_you_mean(config::nearest_key(child.key, keys)));
    }
    std::size_t element = 0;
    for (const Tree& item : child.children) {
      const std::optional<std::size_t> d = dimension_of(child.key, element);
      if (!d) return refuse(item.place, child.key, fmt::format("has at most {} elements", element));
      read_value(*d, item, rules_.dimensions[*d].key);
      ++element;
    }
  }

  std::optional<std::size_t> dimension_of(const std::string& list, std::size_t element) const {
    const auto found = std::ranges::find(rules_.dimensions, fmt::format("{}[{}]", list, element), &Dimension::key);
    if (found == rules_.dimensions.end()) return std::nullopt;
    return static_cast<std::size_t>(found - rules_.dimensions.begin());
  }

  void read_value(std::size_t d, const Tree& tree, const std::string& key) {
    if (parameters_[rules_.parameters[d]].broken) return;
    const std::optional<double> value = value_in(rules_.dimensions[d], tree);
    if (!value) {
      const std::vector<std::string_view> words(rules_.dimensions[d].values.begin(), rules_.dimensions[d].values.end());
      const std::string guess = as_number(tree) ? "" : config::did_you_mean(config::nearest_word(tree.text, words));
      return refuse(tree.place, key, fmt::format("expected {}, found {}{}", wanted(rules_.dimensions[d]), found(tree), guess));
    }
    given_[d] = {&tree, *value};
  }

  /// Fills point_; whether any of its values is open.
  bool follow() {
    constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
    Point point(given_.size(), kNaN);
    std::vector<bool> open(given_.size(), false);
    for (std::size_t d = 0; d < given_.size(); ++d) {
      const Given& given = given_[d];
      const bool known = std::ranges::none_of(rules_.dimensions[d].parents, [&](std::size_t parent) { return open[parent]; });
      const bool active = !known || std::ranges::all_of(rules_.conditions[d], [&](const Expression& one) { return one.holds(point); });
      if (given.tree != nullptr && !active) {
        refuse(given.tree->place, rules_.dimensions[d].key, "is not active with the other values given here");
      }
      open[d] = active && given.tree == nullptr;
      if (active && !open[d]) point[d] = given.value;
      point_.push_back(open[d] ? std::nullopt : std::optional(point[d]));
    }
    return std::ranges::find(open, true) != open.end();
  }

  void check_forbidden(const Tree& entry) {
    Point point;
    for (const std::optional<double>& value : point_) point.push_back(*value);
    const bool forbidden = std::ranges::any_of(rules_.forbidden, [&](const Expression& one) { return one.holds(point); });
    if (forbidden) problems_.add(entry.place, key_, "is forbidden");
  }

  const Rules& rules_;
  const std::vector<ReadParameter>& parameters_;
  const std::string key_;
  config::Problems& problems_;
  std::vector<Given> given_;   // per dimension
  PartialPoint point_;
  bool good_ = true;
};

}  // namespace

std::vector<PartialPoint> read_first(const Tree* first, const Rules& rules, const std::vector<ReadParameter>& parameters,
                                     config::Problems& problems) {
  std::vector<PartialPoint> points;
  if (first == nullptr) return points;
  if (first->kind != Tree::Kind::list) {
    problems.add(first->place, "first", fmt::format("expected a list of points, found {}", found(*first)));
    return points;
  }
  for (const Tree& entry : first->children) {
    points.push_back(FirstPoint(rules, parameters, fmt::format("first[{}]", points.size()), problems).read(entry));
  }
  return points;
}

}  // namespace tugline::sweep
