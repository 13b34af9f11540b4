// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/progress_line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ostream>
#include <vector>

#include "tugline/core/clock.hpp"
#include "tugline/core/metrics/figure_text.hpp"

namespace tugline {
namespace {

constexpr double kLiveIntervalSeconds = 0.1;
constexpr double kFadeSeconds = 5;
constexpr double kSlackWaiting = 0.1;  // of all ranks' time: from there on the slack rank is named

}  // namespace

ProgressLine::ProgressLine(std::ostream& out, const Clock& clock, ProgressOptions options)
    : out_(out), clock_(clock), options_(options) {
  if (options_.mode == ConsoleMode::live) live_.emplace(out, options_.columns);
}

ProgressLine::~ProgressLine() {
  if (stale_) show();
}

void ProgressLine::step(const StepRecord& record) {
  latest_ = record;
  stale_ = true;
  if (record.samples_per_second > 0) {
    const double seconds = step_seconds(record);
    const double keep = std::exp(-seconds / kFadeSeconds);
    recent_ = {keep * recent_.steps + 1, keep * recent_.samples + static_cast<double>(record.samples),
               keep * recent_.seconds + seconds};
    waiting_.add(record, keep);
  }
  const double interval = options_.mode == ConsoleMode::live ? kLiveIntervalSeconds : options_.plain_interval_seconds;
  if (!shown_ || clock_.seconds() - shown_at_ >= interval) show();
}

void ProgressLine::evaluation(const EvalRecord& record) {
  evaluations_[record.split] = record;
  stale_ = true;
  // The line forgets; what was evaluated stays to be read.
  std::string text = fmt::format("epoch {}  step {}  {} loss {}", record.epoch, record.step, record.split, number_text(record.loss));
  if (record.accuracy) text += fmt::format("  accuracy {:.2f}%", 100 * *record.accuracy);
  if (!live_) {
    out_ << text << std::endl;
    return;
  }
  live_->print(text);
  if (shown_) show();
}

std::string ProgressLine::text(std::size_t room) const {
  // What goes first when there is little room: the highest number. The first field to stay is the step, the next the loss.
  struct Field {
    int expendable;
    std::string text;
  };
  std::vector<Field> fields;
  if (latest_) {
    const StepRecord& now = *latest_;
    fields.push_back({6, fmt::format("epoch {}", now.epoch)});
    fields.push_back(
        {0, now.total_steps > 0 ? fmt::format("step {}/{}", now.step, now.total_steps) : fmt::format("step {}", now.step)});
    fields.push_back({1, "loss " + number_text(now.loss)});
    if (now.staleness) fields.push_back({9, fmt::format("stale {:.1f}", now.staleness->mean())});
    if (now.accuracy) fields.push_back({8, fmt::format("accuracy {:.1f}%", 100 * *now.accuracy)});
  }
  for (const auto& [split, record] : evaluations_) {
    const std::string name = split == "validation" ? "val" : split;
    fields.push_back({2, record.accuracy ? fmt::format("{} {:.1f}%", name, 100 * *record.accuracy)
                                         : fmt::format("{} loss {}", name, number_text(record.loss))});
  }
  if (recent_.seconds > 0) {
    fields.push_back({5, fmt::format("{:.0f} samples/s", recent_.samples / recent_.seconds)});
    if (latest_->step < latest_->total_steps) {
      const auto steps_left = static_cast<double>(latest_->total_steps - latest_->step);
      fields.push_back({4, duration_text(steps_left * recent_.seconds / recent_.steps) + " left"});
    }
    fields.push_back({3, fmt::format("wait {:.0f}%", 100 * waiting_.share())});
    if (const auto slack = waiting_.slack_rank(kSlackWaiting)) fields.push_back({7, fmt::format("slack rank {}", *slack)});
  }
  for (;;) {
    std::string line;
    for (const Field& field : fields) line += (line.empty() ? "" : "  ") + field.text;
    if (line.size() <= room || fields.size() == 1) return line.substr(0, room);
    fields.erase(std::ranges::max_element(fields, {}, &Field::expendable));
  }
}

void ProgressLine::show() {
  if (live_) {
    live_->draw(text(live_->room()));
  } else {
    out_ << text(std::string::npos) << std::endl;
  }
  shown_at_ = clock_.seconds();
  shown_ = true;
  stale_ = false;
}

}  // namespace tugline
