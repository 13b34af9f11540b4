// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run/run_status.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/metrics/figure_text.hpp"
#include "tugline/core/metrics/rank_table.hpp"
#include "tugline/trainers/run/result.hpp"
#include "tugline/trainers/run/run_directory.hpp"
#include "tugline/trainers/run/run_records.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kRecentSteps = 100;   // recorded ones
constexpr std::size_t kMostShares = 16;     // as numbers in a line
constexpr double kLeastPatience = 60;       // seconds without an event before silence is worth a word
constexpr double kPatienceInGaps = 3;
constexpr double kAttemptEndSlack = 1;      // attempts.jsonl counts whole seconds

struct State {
  std::string text;
  bool running = false;
};

std::string ago(double seconds) { return duration_text(std::max(0.0, seconds)) + " ago"; }

/// As launch saw the newest attempt end; nullopt where another one has written events since.
std::optional<State> state_by_launch(const std::vector<PastAttempt>& attempts, const RecordedAttempt& recorded) {
  if (attempts.empty() || attempts.back().ended_at + kAttemptEndSlack < recorded.last_time) return std::nullopt;
  const PastAttempt& last = attempts.back();
  if (last.next == "restart") return State{fmt::format("failed: {}; it is being started again", last.end)};
  if (last.next == "give up") return State{fmt::format("failed: {}; launch gave up", last.end)};
  if (last.next == "stopped") return State{fmt::format("stopped: {}; the same command goes on", last.end)};
  return std::nullopt;
}

State state_of(const RecordedAttempt& recorded, const std::optional<Result>& result, const std::vector<PastAttempt>& attempts,
               double now) {
  if (recorded.last_time == 0) return {"nothing recorded yet"};
  const double age = now - recorded.last_time;
  if (recorded.ended && result) {
    const std::string reason = result->reason.empty() ? "" : fmt::format(" ({})", result->reason);
    const char* const then = result->status == Result::kDone ? "" : ", the same command goes on";
    return {fmt::format("{}{} {}{}", result->status, reason, ago(age), then)};
  }
  if (recorded.ended) return {"ending"};   // result.json is written next
  if (auto state = state_by_launch(attempts, recorded)) return *state;
  const bool patient = age <= std::max(kLeastPatience, kPatienceInGaps * recorded.longest_gap);
  if (patient) return {fmt::format("running, last event {}", ago(age)), true};
  return {fmt::format("silent, last event {}: killed, or busy with something long", ago(age))};
}

std::string progress_text(const RecordedAttempt& recorded, bool running) {
  if (recorded.steps.empty()) {
    const std::string since = recorded.resumed_at ? fmt::format("goes on after step {}, ", *recorded.resumed_at) : "";
    return "  " + since + "no step recorded yet\n";
  }
  const StepRecord& last = recorded.steps.back();
  std::string text = fmt::format("  epoch {}  step {}", last.epoch, last.step);
  if (last.total_steps > 0) text += fmt::format("/{}", last.total_steps);
  text += "  loss " + number_text(last.loss);
  if (last.accuracy) text += fmt::format("  accuracy {:.2f}%", 100 * *last.accuracy);
  double samples = 0, seconds = 0;
  for (const StepRecord& step : recorded.steps) {
    samples += static_cast<double>(step.samples);
    seconds += step_seconds(step);
  }
  if (seconds > 0) {
    text += fmt::format("  {:.0f} samples/s", samples / seconds);
    const auto steps_left = static_cast<double>(last.total_steps - last.step);
    const double mean = seconds / static_cast<double>(recorded.steps.size());
    if (running && steps_left > 0) text += fmt::format("  {} left", duration_text(steps_left * mean));
  }
  return text + "\n";
}

std::string evaluations_text(const RecordedAttempt& recorded) {
  std::string text;
  for (const auto& [split, record] : recorded.evaluations) {
    text += fmt::format("  {:<11} step {}  loss {}", split, record.step, number_text(record.loss));
    if (record.accuracy) text += fmt::format("  accuracy {:.2f}%", 100 * *record.accuracy);
    text += "\n";
  }
  return text;
}

std::string checkpoint_text(const fs::path& folder, double now) {
  const auto entries = CheckpointFolder(folder).list();
  if (entries.empty()) return "  checkpoint  none yet\n";
  std::error_code error;
  const auto written = fs::last_write_time(entries.back().file, error);
  std::string text = fmt::format("  checkpoint  step {}", entries.back().step);
  if (!error) {
    const auto time = std::chrono::file_clock::to_sys(written).time_since_epoch();
    text += ", " + ago(now - std::chrono::duration<double>(time).count());
  }
  return text + "\n";
}

std::string restarts_text(const std::vector<PastAttempt>& attempts) {
  const auto is_restart = [](const PastAttempt& attempt) { return attempt.next == "restart"; };
  const auto last = std::find_if(attempts.rbegin(), attempts.rend(), is_restart);
  if (last == attempts.rend()) return "";
  return fmt::format("  restarts    {}, the last after attempt {} ended at step {}: {}\n",
                     std::count_if(attempts.begin(), attempts.end(), is_restart), last->number, last->to_step, last->end);
}

std::string balance_text(const RecordedAttempt& recorded) {
  if (!recorded.balance) return "";
  const RecordedAttempt::Balance& cut = *recorded.balance;
  const std::string numbers = cut.shares.size() <= kMostShares ? fmt::format("{}, ", fmt::join(cut.shares, " | ")) : "";
  return fmt::format("  shares      {}from step {}: {}\n", numbers, cut.step, cut.reason);
}

}  // namespace

std::string run_status(const fs::path& folder, double now) {
  const RunPaths paths(folder);
  if (!fs::exists(folder)) throw IoError("'" + folder.string() + "' does not exist");
  if (!fs::is_directory(folder)) throw UsageError("'" + folder.string() + "' is not a folder; give the folder of a run");
  if (!fs::exists(paths.metrics())) {
    throw UsageError("'" + folder.string() + "' holds no metrics.jsonl; give the folder of a run that has begun to train");
  }
  const RecordedAttempt recorded = read_metrics(paths.metrics(), kRecentSteps);
  const auto attempts = read_attempts(folder / "attempts.jsonl");
  const State state = state_of(recorded, read_result(paths.result()), attempts, now);

  std::string text = fmt::format("{}: {}\n", folder.string(), state.text);
  text += progress_text(recorded, state.running) + evaluations_text(recorded) + checkpoint_text(paths.checkpoints(), now) +
          restarts_text(attempts) + balance_text(recorded);
  RankTable table(read_hosts(paths.environment()));
  for (const StepRecord& step : recorded.steps) table.step(step);
  const std::string ranks = table.text();
  return ranks.empty() ? text : text + ranks + "\n";
}

}  // namespace tugline
