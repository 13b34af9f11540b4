// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/config/scalar.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/nowide/utf/utf.hpp>
#include <charconv>
#include <cmath>

namespace tugline::config {
namespace {

bool is_plain(const Tree& tree) { return tree.kind == Tree::Kind::scalar && !tree.quoted && !tree.text.empty(); }

template <class Number>
bool parse_whole_text(const std::string& text, Number& out) {
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (*begin == '+' && text.size() > 1 && begin[1] != '-') ++begin;
  const auto result = std::from_chars(begin, end, out);
  return result.ec == std::errc{} && result.ptr == end;
}

template <class Integer>
bool read_integer(const Tree& tree, const Allowed& allowed, Integer& out) {
  if (!is_plain(tree)) return false;
  Integer value{};
  if (!parse_whole_text(tree.text, value)) {
    // 1e6 is a whole number too; beyond 2^53 a double no longer says which one.
    double real = 0;
    const double limit = std::min(0x1p53, static_cast<double>(std::numeric_limits<Integer>::max()));
    if (!parse_whole_text(tree.text, real) || std::trunc(real) != real || std::abs(real) > limit || real < 0) return false;
    value = static_cast<Integer>(real);
  }
  if (!allowed.contains(static_cast<double>(value))) return false;
  out = value;
  return true;
}

}  // namespace

bool read_scalar(const Tree& tree, const Allowed&, bool& out) {
  if (!is_plain(tree)) return false;
  const bool yes = tree.text == "true" || tree.text == "True" || tree.text == "TRUE";
  const bool no = tree.text == "false" || tree.text == "False" || tree.text == "FALSE";
  if (yes || no) out = yes;
  return yes || no;
}

bool read_scalar(const Tree& tree, const Allowed& allowed, int& out) { return read_integer(tree, allowed, out); }
bool read_scalar(const Tree& tree, const Allowed& allowed, std::int64_t& out) { return read_integer(tree, allowed, out); }
bool read_scalar(const Tree& tree, const Allowed& allowed, std::uint64_t& out) { return read_integer(tree, allowed, out); }

bool read_scalar(const Tree& tree, const Allowed& allowed, double& out) {
  double value = 0;
  if (!is_plain(tree) || !parse_whole_text(tree.text, value)) return false;
  if (!std::isfinite(value) || !allowed.contains(value)) return false;
  out = value;
  return true;
}

bool read_scalar(const Tree& tree, const Allowed& allowed, std::string& out) {
  if (tree.kind != Tree::Kind::scalar) return false;
  const auto& choices = allowed.choices;
  if (!choices.empty() && std::ranges::find(choices, tree.text) == choices.end()) return false;
  out = tree.text;
  return true;
}

std::string number_text(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find('.') == std::string::npos) text.insert(std::min(text.find('e'), text.size()), ".0");
  return text;
}

std::size_t invalid_utf8(std::string_view text) {
  using Utf8 = boost::nowide::utf::utf_traits<char>;
  for (auto at = text.begin(); at != text.end();) {
    const auto before = at;
    if (!boost::nowide::utf::is_valid_codepoint(Utf8::decode(at, text.end()))) {
      return static_cast<std::size_t>(before - text.begin());
    }
  }
  return std::string_view::npos;
}

}  // namespace tugline::config
