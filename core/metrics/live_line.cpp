// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/live_line.hpp"

#include <ostream>

#include "tugline/core/log.hpp"

namespace tugline {
namespace {

constexpr std::string_view kClear = "\r\x1b[K";

}  // namespace

// One column stays free: a full line makes some terminals wrap.
LiveLine::LiveLine(std::ostream& out, int columns) : out_(out), room_(static_cast<std::size_t>((columns > 0 ? columns : 80) - 1)) {
  log::set_console([this](std::string_view line) { print(line); });
}

LiveLine::~LiveLine() {
  log::set_console(nullptr);
  if (!text_.empty()) out_ << '\n' << std::flush;
}

void LiveLine::draw(std::string_view text) {
  const std::lock_guard lock(mutex_);
  text_ = text.substr(0, room_);
  out_ << kClear << text_ << std::flush;
}

void LiveLine::print(std::string_view line) {
  const std::lock_guard lock(mutex_);
  if (!text_.empty()) out_ << kClear;
  out_ << line << '\n' << text_ << std::flush;
}

}  // namespace tugline
