// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/figure_text.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>

namespace tugline {

std::string duration_text(double seconds) {
  if (!(seconds < 1e9)) return "?";
  const auto whole = static_cast<std::int64_t>(std::ceil(seconds));
  const auto hours = whole / 3600, minutes = whole / 60 % 60, rest = whole % 60;
  return hours > 0 ? fmt::format("{}:{:02}:{:02}", hours, minutes, rest) : fmt::format("{}:{:02}", minutes, rest);
}

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  const double size = std::abs(value);
  if (size >= 1e-3 && size < 1e3) return fmt::format("{:#.4g}", value);
  if (size >= 1e3 && size < 1e6) return fmt::format("{:.0f}", value);
  return fmt::format("{:.3g}", value);
}

}  // namespace tugline
