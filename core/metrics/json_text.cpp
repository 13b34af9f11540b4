// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/json_text.hpp"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <cmath>
#include <iterator>
#include <limits>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

namespace json = boost::json;

constexpr int kOneLine = -1;

std::string double_text(double value) {
  if (std::isnan(value)) return "\"nan\"";
  if (std::isinf(value)) return value > 0 ? "\"inf\"" : "\"-inf\"";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";  // stays a float for readers that look at the type
  return text;
}

void append(std::string& out, const json::value& value, int depth);

void append_break(std::string& out, int depth) {
  if (depth == kOneLine) return;
  out += '\n';
  out.append(2 * static_cast<std::size_t>(depth), ' ');
}

/// Brackets, commas and line breaks around what `append_item` writes.
template <class Items, class AppendItem>
void append_items(std::string& out, const Items& items, const char* brackets, int depth, AppendItem append_item) {
  const int inner = depth == kOneLine ? kOneLine : depth + 1;
  out += brackets[0];
  bool first = true;
  for (const auto& item : items) {
    if (!std::exchange(first, false)) out += ',';
    append_break(out, inner);
    append_item(item, inner);
  }
  if (!items.empty()) append_break(out, depth);
  out += brackets[1];
}

void append(std::string& out, const json::value& value, int depth) {
  if (const auto* number = value.if_double()) {
    out += double_text(*number);
  } else if (const auto* array = value.if_array()) {
    append_items(out, *array, "[]", depth, [&](const json::value& item, int inner) { append(out, item, inner); });
  } else if (const auto* object = value.if_object()) {
    append_items(out, *object, "{}", depth, [&](const json::key_value_pair& member, int inner) {
      out += json::serialize(json::string_view(member.key()));
      out += inner == kOneLine ? ":" : ": ";
      append(out, member.value(), inner);
    });
  } else {
    out += json::serialize(value);
  }
}

}  // namespace

std::string json_line(const json::value& value) {
  std::string out;
  append(out, value, kOneLine);
  return out;
}

std::string json_pretty(const json::value& value) {
  std::string out;
  append(out, value, 0);
  out += '\n';
  return out;
}

double json_double(const json::value& value) {
  if (value.is_number()) return value.to_number<double>();
  if (const auto* text = value.if_string()) {
    if (*text == "nan") return std::numeric_limits<double>::quiet_NaN();
    if (*text == "inf") return std::numeric_limits<double>::infinity();
    if (*text == "-inf") return -std::numeric_limits<double>::infinity();
  }
  throw Error(fmt::format("expected a number, found {}", json_line(value)));
}

}  // namespace tugline
