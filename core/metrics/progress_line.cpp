// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/progress_line.hpp"

#include <fmt/format.h>

#include <cmath>
#include <ostream>

#include "tugline/core/clock.hpp"
#include "tugline/core/log.hpp"

namespace tugline {
namespace {

constexpr double kLiveIntervalSeconds = 0.1;
constexpr double kFadeSeconds = 5;
constexpr std::string_view kClear = "\r\x1b[K";

/// "0:42", "3:58", "2:07:15".
std::string duration_text(double seconds) {
  if (!(seconds < 1e9)) return "?";
  const auto whole = static_cast<std::int64_t>(std::ceil(seconds));
  const auto hours = whole / 3600, minutes = whole / 60 % 60, rest = whole % 60;
  return hours > 0 ? fmt::format("{}:{:02}:{:02}", hours, minutes, rest) : fmt::format("{}:{:02}", minutes, rest);
}

/// Four significant digits, without an exponent where a person would not write one.
std::string number_text(double value) {
  const double size = std::abs(value);
  if (size >= 1e-3 && size < 1e3) return fmt::format("{:#.4g}", value);
  if (size >= 1e3 && size < 1e6) return fmt::format("{:.0f}", value);
  return fmt::format("{:.3g}", value);
}

}  // namespace

ProgressLine::ProgressLine(std::ostream& out, const Clock& clock, ProgressOptions options)
    : out_(out), clock_(clock), options_(options) {
  if (options_.mode == ConsoleMode::live) log::set_console([this](std::string_view line) { print(line); });
}

ProgressLine::~ProgressLine() {
  if (options_.mode == ConsoleMode::live) log::set_console(nullptr);
  finish();
}

void ProgressLine::step(const StepRecord& record) {
  const std::lock_guard lock(mutex_);
  latest_ = record;
  stale_ = true;
  if (record.samples_per_second > 0) {
    const double seconds = static_cast<double>(record.samples) / record.samples_per_second;
    const double keep = std::exp(-seconds / kFadeSeconds);
    recent_ = {keep * recent_.steps + 1, keep * recent_.samples + static_cast<double>(record.samples),
               keep * recent_.seconds + seconds, keep * recent_.wait_seconds + record.seconds.wait};
  }
  const double interval = options_.mode == ConsoleMode::live ? kLiveIntervalSeconds : options_.plain_interval_seconds;
  if (!shown_ || clock_.seconds() - shown_at_ >= interval) show();
}

void ProgressLine::evaluation(const EvalRecord& record) {
  const std::lock_guard lock(mutex_);
  evaluations_[record.split] = record;
  stale_ = true;
}

void ProgressLine::print(std::string_view line) {
  const std::lock_guard lock(mutex_);
  const bool was_drawn = drawn_;
  clear();
  out_ << line << '\n';
  if (was_drawn) show();
  out_.flush();
}

std::string ProgressLine::text() const {
  std::string line;
  const auto add = [&line](const std::string& field) { line += (line.empty() ? "" : "  ") + field; };
  if (latest_) {
    const StepRecord& now = *latest_;
    add(fmt::format("epoch {}", now.epoch));
    add(now.total_steps > 0 ? fmt::format("step {}/{}", now.step, now.total_steps) : fmt::format("step {}", now.step));
    add("loss " + number_text(now.loss));
    if (now.accuracy) add(fmt::format("accuracy {:.1f} %", 100 * *now.accuracy));
  }
  for (const auto& [split, record] : evaluations_) {
    add(record.accuracy ? fmt::format("{} {:.1f} %", split, 100 * *record.accuracy)
                        : fmt::format("{} loss {}", split, number_text(record.loss)));
  }
  if (recent_.seconds > 0) {
    add(fmt::format("{:.0f} samples/s", recent_.samples / recent_.seconds));
    if (latest_->step < latest_->total_steps) {
      add(duration_text(static_cast<double>(latest_->total_steps - latest_->step) * recent_.seconds / recent_.steps) +
          " left");
    }
    add(fmt::format("waiting {:.0f} %", 100 * recent_.wait_seconds / recent_.seconds));
  }
  return line;
}

void ProgressLine::show() {
  std::string line = text();
  if (options_.mode == ConsoleMode::live) {
    // One column stays free: a full line makes some terminals wrap.
    const int columns = options_.columns > 0 ? options_.columns : 80;
    if (static_cast<int>(line.size()) >= columns) line.resize(static_cast<std::size_t>(columns - 1));
    out_ << kClear << line << std::flush;
    drawn_ = true;
  } else {
    out_ << line << std::endl;
  }
  shown_at_ = clock_.seconds();
  shown_ = true;
  stale_ = false;
}

void ProgressLine::clear() {
  if (drawn_) out_ << kClear;
  drawn_ = false;
}

void ProgressLine::finish() {
  const std::lock_guard lock(mutex_);
  if (stale_) show();
  if (drawn_) out_ << '\n' << std::flush;
  drawn_ = false;
}

}  // namespace tugline
