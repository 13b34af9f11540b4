// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <iosfwd>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "tugline/core/metrics/console_mode.hpp"
#include "tugline/core/metrics/live_line.hpp"
#include "tugline/core/metrics/sink.hpp"
#include "tugline/core/metrics/waiting.hpp"

namespace tugline {

class Clock;

struct ProgressOptions {
  ConsoleMode mode = ConsoleMode::plain;
  int columns = 0;  ///< live: width of the terminal; 0: 80
  double plain_interval_seconds = 5;
};

/// Tells a person how the run goes:
///
///     epoch 3  step 240/1200  loss 0.3120  accuracy 91.2%  val 96.8%  4210 samples/s  3:58 left  wait 2%
///
/// (wait: the share of all ranks' time that is spent waiting for other ranks. When it is much, "slack rank 1" behind it names
/// the one they wait for.) live: redrawn in place, at most 10 times a second, in a narrow
/// terminal without its least important fields; takes over the log's console, so that
/// log lines appear above it. plain: a line of its own every few seconds. The last state stays on a line of its own.
class ProgressLine final : public Sink {
 public:
  /// `out` and `clock` must outlive it.
  ProgressLine(std::ostream& out, const Clock& clock, ProgressOptions options);
  ~ProgressLine() override;
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void step(const StepRecord&) override;
  void evaluation(const EvalRecord&) override;
  void event(std::string_view, const boost::json::object&) override {}

 private:
  std::string text(std::size_t room) const;
  void show();

  std::ostream& out_;
  const Clock& clock_;
  const ProgressOptions options_;
  std::optional<LiveLine> live_;
  std::optional<StepRecord> latest_;
  std::map<std::string, EvalRecord> evaluations_;  // latest per split
  // Sums of recent steps, older ones fading, so that figures follow the run without flickering.
  struct Recent {
    double steps = 0, samples = 0, seconds = 0;
  } recent_;
  Waiting waiting_;  // fading alike
  double shown_at_ = 0;
  bool shown_ = false;  // something has been shown
  bool stale_ = false;  // facts have come since
};

}  // namespace tugline
