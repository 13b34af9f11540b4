// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/space/points.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/value.hpp>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>

#include "tugline/core/config/scalar.hpp"
#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/space/exact_number.hpp"
#include "tugline/trainers/sweep/space/value_text.hpp"

namespace tugline::sweep {
namespace {

namespace json = boost::json;
using Kind = Dimension::Kind;

std::string text_of(const Dimension& dimension, double value) {
  if (dimension.kind == Kind::real) return config::number_text(value);
  const auto whole = static_cast<std::int64_t>(value);
  return dimension.kind == Kind::integer ? fmt::format("{}", whole) : dimension.values[static_cast<std::size_t>(whole)];
}

/// "model.hidden[2]" -> 2.
std::size_t element_of(std::string_view key) {
  std::size_t element = 0;
  const std::string_view index = key.substr(list_key(key).size());
  if (!index.empty()) std::from_chars(index.data() + 1, index.data() + index.size(), element);
  return element;
}

std::optional<double> read_value(const Dimension& dimension, const json::value& value) {
  std::optional<double> number;
  if (dimension.kind == Kind::real) {
    number = exact_number(value);
  } else if (dimension.kind == Kind::integer) {
    if (value.is_int64()) number = static_cast<double>(value.get_int64());
  } else if (const json::string* text = value.if_string()) {
    const auto known = std::ranges::find(dimension.values, std::string_view(*text));
    if (known != dimension.values.end()) number = static_cast<double>(known - dimension.values.begin());
  }
  return number && *number >= dimension.low && *number <= dimension.high ? number : std::nullopt;
}

/// What a text of value_text.hpp stands for.
json::value plain_value(const config::Tree& value) {
  using Tree = config::Tree;
  if (value.kind == Tree::Kind::null) return nullptr;
  if (value.kind == Tree::Kind::list) {
    json::array items;
    for (const Tree& item : value.children) items.push_back(plain_value(item));
    return items;
  }
  if (value.quoted) return json::value(value.text);
  if (const auto yes = as_bool(value)) return *yes;
  const auto number = as_number(value);
  if (!number) return json::value(value.text);
  const bool whole = *number == std::floor(*number) && std::abs(*number) < 9e15;
  return whole ? json::value(static_cast<std::int64_t>(*number)) : json::value(*number);
}

}  // namespace

Point completed(const Space& space, const PartialPoint& partial, std::uint64_t seed, std::int64_t number) {
  for (int attempt = 0; attempt < kDrawAttempts; ++attempt) {
    const std::vector<double> unit = space.draw_unit(seed, number, attempt);
    Point point(space.size());
    for (std::size_t d = 0; d < space.size(); ++d) point[d] = partial[d].value_or(from_unit(space.dimensions()[d], unit[d]));
    point = space.without_inactive(std::move(point));
    const bool kept = std::ranges::equal(partial, point, [](const std::optional<double>& given, double value) {
      return !given || std::isnan(*given) || !std::isnan(value);
    });
    if (kept && !space.is_forbidden(point)) return point;
  }
  throw ConfigError(fmt::format("forbid leaves nothing: none of {} draws completes a given point", kDrawAttempts));
}

std::vector<std::string> overrides(const Space& space, const Point& point) {
  struct Setting {
    std::string_view key;
    std::map<std::size_t, std::string> elements;   // by index; of one value: by 0
    bool list;
  };
  std::vector<Setting> settings;
  for (std::size_t d = 0; d < space.size(); ++d) {
    const std::string_view key = space.dimensions()[d].key;
    if (key.starts_with('$') || std::isnan(point[d])) continue;
    const std::string_view list = list_key(key);
    auto setting = std::ranges::find(settings, list, &Setting::key);
    if (setting == settings.end()) setting = settings.insert(settings.end(), {list, {}, list != key});
    setting->elements[element_of(key)] = text_of(space.dimensions()[d], point[d]);
  }
  std::vector<std::string> texts;
  for (const auto& [key, elements, list] : settings) {
    std::string value;
    for (const auto& [element, text] : elements) value += (value.empty() ? "" : ",") + text;
    texts.push_back(list ? fmt::format("{}=[{}]", key, value) : fmt::format("{}={}", key, value));
  }
  return texts;
}

json::object point_to_json(const Space& space, const Point& point) {
  json::object result;
  for (std::size_t d = 0; d < space.size(); ++d) {
    const Dimension& dimension = space.dimensions()[d];
    if (std::isnan(point[d])) continue;
    const bool whole = dimension.kind == Kind::integer;
    result[dimension.key] = whole ? json::value(static_cast<std::int64_t>(point[d])) : json::value(text_of(dimension, point[d]));
  }
  return result;
}

json::object plain_values(const Space& space, const Point& point) {
  json::object values;
  for (std::size_t d = 0; d < space.size(); ++d) {
    const Dimension& dimension = space.dimensions()[d];
    if (std::isnan(point[d])) continue;
    if (!dimension.values.empty()) values[dimension.key] = plain_value(value_tree(dimension.values[static_cast<std::size_t>(point[d])]));
    else if (dimension.kind == Kind::integer) values[dimension.key] = static_cast<std::int64_t>(point[d]);
    else values[dimension.key] = point[d];
  }
  return values;
}

Point point_from_json(const Space& space, const json::object& json) {
  Point point(space.size(), std::numeric_limits<double>::quiet_NaN());
  std::size_t found = 0;
  for (std::size_t d = 0; d < space.size(); ++d) {
    const Dimension& dimension = space.dimensions()[d];
    const json::value* value = json.if_contains(dimension.key);
    if ((value != nullptr) != space.is_active(d, point)) {
      throw ConfigError(fmt::format("the point {} {}", value == nullptr ? "has no" : "has a value, though not active, of", dimension.key));
    }
    if (value == nullptr) continue;
    const std::optional<double> number = read_value(dimension, *value);
    if (!number) throw ConfigError(fmt::format("the point's {} is not one of the space's values", dimension.key));
    point[d] = *number;
    ++found;
  }
  if (found != json.size()) throw ConfigError("the point has a key that the space does not have");
  return point;
}

}  // namespace tugline::sweep
