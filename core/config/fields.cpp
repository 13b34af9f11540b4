// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/config/fields.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "tugline/core/error.hpp"

namespace tugline::config {
namespace {

std::string bounds(const Allowed& allowed) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::string text;
  if (allowed.min != -kInfinity) text = fmt::format(" {} {}", allowed.min_open ? ">" : ">=", allowed.min);
  if (allowed.max != kInfinity) {
    text += fmt::format("{} {} {}", text.empty() ? "" : " and", allowed.max_open ? "<" : "<=", allowed.max);
  }
  return text;
}

std::string_view noun(Type::Kind kind, bool plural) {
  switch (kind) {
    case Type::Kind::integer:
      return plural ? "whole numbers" : "a whole number";
    case Type::Kind::number:
      return plural ? "numbers" : "a number";
    case Type::Kind::boolean:
      return "true or false";
    case Type::Kind::section:
      return plural ? "sections" : "a section of keys";
    case Type::Kind::texts:
      return "a section of names with text";
    case Type::Kind::text:
      break;
  }
  return plural ? "texts" : "text";
}

}  // namespace

std::string without_indices(std::string_view key) {
  std::string result;
  bool inside = false;
  for (const char c : key) {
    if (c == ']') inside = false;
    if (!inside) result += c;
    if (c == '[') inside = true;
  }
  return result;
}

const Field& field_of(std::string_view key) {
  const std::string plain = without_indices(key);
  const auto& all = fields();
  const auto field = std::ranges::find(all, plain, &Field::key);
  if (field == all.end()) throw Error(fmt::format("no config key is called {}", plain));
  return *field;
}

std::string expected(const Field& field, bool item) {
  const Allowed& allowed = field.note->allowed;
  const bool list = field.type.list && !item;
  std::string text = allowed.choices.empty() || list ? fmt::format("{}{}", noun(field.type.kind, list), bounds(allowed))
                     : allowed.choices.size() == 1   ? std::string(allowed.choices[0])
                                                     : fmt::format("one of {}", fmt::join(allowed.choices, ", "));
  if (list) text = "a list of " + text;
  return field.type.optional ? text + ", or null" : text;
}

}  // namespace tugline::config
