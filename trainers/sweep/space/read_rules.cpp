// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <regex>
#include <set>

#include "tugline/core/config/nearest.hpp"
#include "tugline/trainers/sweep/space/rules.hpp"
#include "tugline/trainers/sweep/space/value_text.hpp"

namespace tugline::sweep {
namespace {

using config::Tree;

/// Where a column of the text stands in the file.
config::Place place_in(const Tree& text, int column) {
  config::Place place = text.place;
  if (text.text.find('\n') == std::string::npos) place.column += column - 1 + (text.quoted ? 1 : 0);
  return place;
}

/// Whether a condition is about the element itself: it has a word i.
bool speaks_of_element(const std::string& text) {
  static const std::regex word(R"((^|[^\w.$'"])i($|[^\w.'"]))");
  return std::regex_search(text, word);
}

class RulesReader {
 public:
  RulesReader(std::vector<ReadParameter>& parameters, config::Problems& problems) : parameters_(parameters), problems_(problems) {}

  Rules read(const Tree* forbid) && {
    for (ReadParameter& one : parameters_) {
      if (!one.broken && !one.parameter.repeat.empty()) count_elements(one);
    }
    expand();
    misread_.assign(parameters_.size(), false);
    for (std::size_t d = 0; d < rules_.dimensions.size(); ++d) read_conditions(d);
    if (forbid != nullptr) read_forbid(*forbid);
    if (sort()) check_reach();
    return std::move(rules_);
  }

 private:
  static constexpr std::size_t kMostDimensions = 1000;
  static const std::string& key_of(const ReadParameter& one) { return one.parameter.dimension.key; }

  void refuse(ReadParameter& one, std::string_view key, std::string_view sentence) {
    const Tree* value = one.tree->find(key);
    if (value != nullptr) {
      problems_.add(value->place, fmt::format("{}.{}", one.tree->key, key), sentence);
    } else {
      problems_.add(one.tree->key_place, one.tree->key, sentence);
    }
    one.broken = true;
  }

  // ---- from parameters to dimensions

  struct Limits {
    double low = 0, high = 0;
  };
  /// `for` has two forms, i < NAME and i < NUMBER.
  void count_elements(ReadParameter& one) {
    static const std::regex form(R"(\s*i\s*<\s*([\w.$]+)\s*)");
    std::smatch match;
    if (!std::regex_match(one.parameter.repeat, match, form)) return refuse(one, "for", "expected i < NAME or i < NUMBER");
    const std::string bound = match[1];
    Limits limits;
    if (std::isdigit(static_cast<unsigned char>(bound[0]))) {
      std::from_chars(bound.data(), bound.data() + bound.size(), limits.low);
      limits.high = limits.low;
      if (std::trunc(limits.low) != limits.low) return refuse(one, "for", fmt::format("expected a whole number, found {}", bound));
    } else if (!find_limits(one, bound, limits)) {
      return;
    }
    if (limits.high < 1) return refuse(one, "for", fmt::format("can never hold: {} is at most {}", bound, limits.high));
    if (one.in_config && limits.low < 1) {
      return refuse(one, "for", fmt::format("{} may be {}, and the list would be empty", bound, limits.low));
    }
    if (limits.high > kMostDimensions) return refuse(one, "for", fmt::format("more than {} elements", kMostDimensions));
    if (one.in_config && speaks_of_element(one.parameter.when)) {
      return refuse(one, "when", "a list has no gaps: the condition of its elements cannot be about i");
    }
    one.parameter.elements = static_cast<std::size_t>(limits.high);
  }

  /// The least and greatest value of the parameter that bounds a `for`.
  bool find_limits(ReadParameter& one, const std::string& name, Limits& limits) {
    const auto bound = std::ranges::find(parameters_, name, key_of);
    if (bound == parameters_.end()) {
      std::vector<std::string_view> keys;
      for (const ReadParameter& other : parameters_) keys.push_back(key_of(other));
      const std::string guess = config::did_you_mean(config::nearest_key(name, keys));
      refuse(one, "for", fmt::format("nothing in the space is called '{}'{}", name, guess));
      return false;
    }
    if (bound->broken) {
      one.broken = true;
      return false;
    }
    const Dimension& dimension = bound->parameter.dimension;
    std::vector<double> values;
    if (dimension.kind == Dimension::Kind::integer) values = {dimension.low, dimension.high};
    for (const std::string& value : dimension.values) values.push_back(as_number(value_tree(value)).value_or(0.5));
    if (values.empty() || !std::ranges::all_of(values, [](double value) { return std::trunc(value) == value; })) {
      refuse(one, "for", fmt::format("{} does not count elements: its values are not whole numbers", name));
      return false;
    }
    limits.low = std::ranges::min(values);
    limits.high = std::ranges::max(values);
    return true;
  }

  void expand() {
    for (std::size_t p = 0; p < parameters_.size(); ++p) {
      ReadParameter& one = parameters_[p];
      const Dimension& written = one.parameter.dimension;
      const bool repeated = is_repeated(written.key);
      if (rules_.dimensions.size() + one.parameter.elements > kMostDimensions) {
        for (std::size_t left_out = p; left_out < parameters_.size(); ++left_out) parameters_[left_out].broken = true;
        return problems_.add(one.tree->key_place, written.key, fmt::format("the space has more than {} dimensions", kMostDimensions));
      }
      const std::string_view list = list_key(written.key);
      const bool whole_too = list != written.key && std::ranges::find(parameters_, list, key_of) != parameters_.end();
      if (whole_too) refuse(one, "", fmt::format("{} is searched as a whole too", list));
      for (std::size_t element = 0; element < one.parameter.elements; ++element) {
        rules_.dimensions.push_back(written);
        if (repeated) rules_.dimensions.back().key = with_element(written.key, static_cast<std::int64_t>(element));
        rules_.parameters.push_back(p);
        elements_.push_back(repeated ? std::optional(static_cast<std::int64_t>(element)) : std::nullopt);
      }
    }
  }

  // ---- conditions

  void read_conditions(std::size_t d) {
    rules_.conditions.emplace_back();
    ReadParameter& one = parameters_[rules_.parameters[d]];
    if (one.broken || misread_[rules_.parameters[d]]) return;
    for (const char* key : {"for", "when"}) {
      const Tree* text = one.tree->find(key);
      if (text == nullptr) continue;
      const std::optional<Expression> expression = parse(*text, fmt::format("{}.{}", one.tree->key, key), elements_[d]);
      if (!expression) {
        misread_[rules_.parameters[d]] = true;   // told once, not for every element
        return;
      }
      for (const std::size_t parent : expression->dimensions()) rules_.dimensions[d].parents.push_back(parent);
      rules_.conditions[d].push_back(*expression);
    }
  }

  std::optional<Expression> parse(const Tree& text, const std::string& key, std::optional<std::int64_t> element) {
    try {
      return Expression(text.text, rules_.dimensions, element);
    } catch (const ExpressionError& error) {
      // A name whose parameter is wrong itself may have looked like the mistake.
      const bool follows = std::ranges::any_of(parameters_, [&](const ReadParameter& other) {
        return other.broken && text.text.find(other.tree->key.substr(0, other.tree->key.find('['))) != std::string::npos;
      });
      if (!follows) problems_.add(place_in(text, error.column()), key, error.what());
      return std::nullopt;
    }
  }

  void read_forbid(const Tree& forbid) {
    if (forbid.kind != Tree::Kind::list) {
      return problems_.add(forbid.place, "forbid", fmt::format("expected a list of conditions, found {}", found(forbid)));
    }
    for (std::size_t k = 0; k < forbid.children.size(); ++k) {
      const Tree& text = forbid.children[k];
      const std::string key = fmt::format("forbid[{}]", k);
      if (text.kind != Tree::Kind::scalar) {
        problems_.add(text.place, key, fmt::format("expected a condition, found {}", found(text)));
      } else if (std::optional<Expression> expression = parse(text, key, std::nullopt)) {
        rules_.forbidden.push_back(std::move(*expression));
      }
    }
  }

  // ---- order

  /// Parents before children, else as they were. False: something depends on itself.
  bool sort() {
    visited_.assign(rules_.dimensions.size(), Visit::no);
    for (std::size_t d = 0; d < rules_.dimensions.size(); ++d) {
      if (!visit(d)) return false;
    }
    std::vector<std::size_t> to(order_.size());
    for (std::size_t place = 0; place < order_.size(); ++place) to[order_[place]] = place;
    Rules sorted;
    for (const std::size_t d : order_) {
      sorted.dimensions.push_back(std::move(rules_.dimensions[d]));
      sorted.conditions.push_back(std::move(rules_.conditions[d]));
      sorted.parameters.push_back(rules_.parameters[d]);
      std::set<std::size_t> parents;
      for (const std::size_t parent : sorted.dimensions.back().parents) parents.insert(to[parent]);
      sorted.dimensions.back().parents.assign(parents.begin(), parents.end());
      for (Expression& one : sorted.conditions.back()) one.renumber(to);
    }
    for (Expression& one : rules_.forbidden) one.renumber(to);
    sorted.forbidden = std::move(rules_.forbidden);
    rules_ = std::move(sorted);
    return true;
  }

  bool visit(std::size_t d) {
    if (visited_[d] == Visit::done) return true;
    path_.push_back(d);
    if (visited_[d] == Visit::open) {
      tell_cycle();
      return false;
    }
    visited_[d] = Visit::open;
    for (const std::size_t parent : rules_.dimensions[d].parents) {
      if (!visit(parent)) return false;
    }
    visited_[d] = Visit::done;
    path_.pop_back();
    order_.push_back(d);
    return true;
  }

  void tell_cycle() {
    const std::size_t again = path_.back();
    std::vector<std::string> keys;
    for (auto d = std::ranges::find(path_, again); d != path_.end(); ++d) keys.push_back(rules_.dimensions[*d].key);
    ReadParameter& one = parameters_[rules_.parameters[again]];
    const bool when = one.tree->find("when") != nullptr;
    refuse(one, when ? "when" : "for", fmt::format("depends on itself: {}", fmt::join(keys, " -> ")));
  }

  void check_reach() {
    std::vector<bool> reached(parameters_.size(), false), doubtful(rules_.dimensions.size(), false);
    for (std::size_t d = 0; d < rules_.dimensions.size(); ++d) {
      const std::size_t p = rules_.parameters[d];
      const auto& parents = rules_.dimensions[d].parents;
      const bool follows = std::ranges::any_of(parents, [&](std::size_t parent) { return doubtful[parent]; });
      doubtful[d] = follows || parameters_[p].broken || misread_[p];
      if (!reached[p]) reached[p] = doubtful[d] || can_be_active(rules_, d);
    }
    for (std::size_t p = 0; p < parameters_.size(); ++p) {
      if (reached[p] || parameters_[p].broken) continue;
      refuse(parameters_[p], parameters_[p].parameter.when.empty() ? "for" : "when", "can never hold");
    }
  }

  enum class Visit { no, open, done };
  std::vector<ReadParameter>& parameters_;
  config::Problems& problems_;
  Rules rules_;
  std::vector<std::optional<std::int64_t>> elements_;   // per dimension, before it is sorted
  std::vector<bool> misread_;                           // per parameter: a condition of it is wrong
  std::vector<Visit> visited_;
  std::vector<std::size_t> path_, order_;
};

}  // namespace

Rules read_rules(std::vector<ReadParameter>& parameters, const Tree* forbid, config::Problems& problems) {
  return RulesReader(parameters, problems).read(forbid);
}

Space make_space(Rules rules) {
  const auto shared = std::make_shared<const Rules>(std::move(rules));
  const auto active = [shared](std::size_t d, const Point& point) {
    return std::ranges::all_of(shared->conditions[d], [&](const Expression& one) { return one.holds(point); });
  };
  const auto forbidden = [shared](const Point& point) {
    return std::ranges::any_of(shared->forbidden, [&](const Expression& one) { return one.holds(point); });
  };
  return Space(shared->dimensions, active, forbidden);
}

}  // namespace tugline::sweep
