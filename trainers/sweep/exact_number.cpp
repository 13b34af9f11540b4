// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/exact_number.hpp"

#include <charconv>
#include <string_view>

#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "tugline/core/error.hpp"

namespace tugline::sweep {

std::string exact_text(double value) { return fmt::format("{}", value); }

double exact_number(const boost::json::value& text) {
  double value = 0;
  if (const auto* const words = text.if_string()) {
    const auto [end, failed] = std::from_chars(words->data(), words->data() + words->size(), value);
    if (failed == std::errc() && end == words->data() + words->size()) return value;
  }
  throw DataError(fmt::format("expected a number as text, found {}", boost::json::serialize(text)));
}

}  // namespace tugline::sweep
