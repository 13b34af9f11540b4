// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/space/exact_number.hpp"

#include <charconv>

#include <boost/json/value.hpp>
#include <fmt/format.h>

namespace tugline::sweep {

std::string exact_text(double value) { return fmt::format("{}", value); }

std::optional<double> exact_number(const boost::json::value& text) {
  const boost::json::string* const words = text.if_string();
  double value = 0;
  if (words == nullptr) return std::nullopt;
  const auto [end, failed] = std::from_chars(words->begin(), words->end(), value);
  return failed == std::errc() && end == words->end() ? std::optional(value) : std::nullopt;
}

}  // namespace tugline::sweep
