// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/space/value_text.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "tugline/core/config/scalar.hpp"
#include "tugline/core/error.hpp"

namespace tugline::sweep {
namespace {

using config::Tree;

constexpr std::string_view kIndex = "[i]";

// Before a quote, and at the end, a backslash would not be itself.
std::string in_quotes(std::string_view text) {
  std::string result = "'";
  std::size_t slashes = 0;
  for (const char c : text) {
    if (c == '\'') result.append(slashes + 1, '\\');
    slashes = c == '\\' ? slashes + 1 : 0;
    result += c;
  }
  return result.append(slashes, '\\') + "'";
}

std::string scalar_text(const Tree& scalar) {
  Tree plain = scalar;
  plain.quoted = false;
  const bool looks_typed = as_number(plain) || as_bool(plain) || value_tree(plain.text).kind != Tree::Kind::scalar;
  return scalar.quoted && looks_typed ? in_quotes(scalar.text) : scalar.text;
}

}  // namespace

std::string value_text(const Tree& value) {
  constexpr std::string_view kSpecial = "\\()[]{}:=,'\" \t\n\r";
  if (value.kind == Tree::Kind::null) return "null";
  if (value.kind == Tree::Kind::list) {
    std::string text;
    for (const Tree& item : value.children) text += (text.empty() ? "" : ",") + value_text(item);
    return "[" + text + "]";
  }
  const bool special = value.text.empty() || value.text.find_first_of(kSpecial) != std::string::npos;
  return special ? in_quotes(value.text) : scalar_text(value);
}

Tree value_tree(const std::string& text) {
  config::Problems problems;
  const std::optional<Tree> tree = config::read_override("value=" + text, 0, problems);
  problems.throw_if_any();
  return tree->children.front();
}

std::optional<double> as_number(const Tree& value) {
  double number = 0;
  return config::read_scalar(value, {}, number) ? std::optional(number) : std::nullopt;
}

std::optional<bool> as_bool(const Tree& value) {
  bool yes = false;
  return config::read_scalar(value, {}, yes) ? std::optional(yes) : std::nullopt;
}

std::string with_element(std::string text, std::int64_t element) {
  const std::string index = fmt::format("[{}]", element);
  for (auto at = text.find(kIndex); at != std::string::npos; at = text.find(kIndex, at)) text.replace(at, kIndex.size(), index);
  return text;
}

bool is_repeated(std::string_view key) { return key.find(kIndex) != std::string_view::npos; }

std::string_view list_key(std::string_view key) { return key.ends_with(']') ? key.substr(0, key.rfind('[')) : key; }

}  // namespace tugline::sweep
