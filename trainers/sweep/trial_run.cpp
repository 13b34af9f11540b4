// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/trial_run.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/trainers/launch/process_tree.hpp"
#include "tugline/trainers/run/result.hpp"
#include "tugline/trainers/run/run_directory.hpp"
#include "tugline/trainers/sweep/space/points.hpp"

namespace tugline::sweep {
namespace {

namespace fs = std::filesystem;

std::string name_of_attempt(std::int64_t job, int attempt) { return fmt::format("job-{:06}.{:03}", job, attempt); }

/// A checkpoint is never changed, so a second name will do.
void link_or_copy(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::create_hard_link(from, to, error);
  if (error) fs::copy_file(from, to, fs::copy_options::overwrite_existing);
}

void add_split(std::map<std::string, double>& metrics, const std::string& name, double loss, std::optional<double> accuracy) {
  metrics[name + "/loss"] = loss;
  if (!accuracy) return;
  metrics[name + "/accuracy"] = *accuracy;
  metrics[name + "/error"] = 1 - *accuracy;
}

std::string short_name(const std::string& split) { return split == "validation" ? "val" : split; }

std::string last_line(const fs::path& file) {
  std::ifstream in(file);
  std::string last;
  for (std::string line; std::getline(in, line);) {
    if (line.find("tugline:") != line.npos) last = line;
  }
  return last;
}

}  // namespace

std::vector<std::string> training_overrides(const SweepConfig& sweep, const Point& point) {
  std::vector<std::string> words = overrides(sweep.space, point);
  if (sweep.stop.rule == "asha") words.push_back(fmt::format("train.epochs={}", sweep.stop.max));
  return words;
}

TrialRun::TrialRun(const SweepConfig& sweep, const Decision& decision, fs::path trial_folder, std::int64_t job, int attempt)
    : sweep_(sweep), decision_(decision), trial_folder_(std::move(trial_folder)), folder_(trial_folder_ / name_of_attempt(job, attempt)) {}

void TrialRun::prepare() const {
  fs::create_directories(trial_folder_);
  std::vector<fs::path> earlier;
  for (const auto& entry : fs::directory_iterator(trial_folder_)) {
    if (entry.is_directory() && entry.path().filename() < folder_.filename()) earlier.push_back(entry.path());
  }
  std::sort(earlier.rbegin(), earlier.rend());
  for (const fs::path& from : earlier) {
    std::error_code error;
    const fs::path checkpoints = RunPaths(from).checkpoints();
    const bool any = std::any_of(fs::directory_iterator(checkpoints, error), fs::directory_iterator(),
                                 [](const auto& entry) { return entry.path().extension() == ".h5"; });
    if (error || !any) continue;
    fs::create_directories(RunPaths(folder_).checkpoints());
    for (const auto& entry : fs::directory_iterator(from)) {
      const std::string name = entry.path().filename().string();
      const bool is_of_the_run = name == ".tugline-run" || name == "config.yaml" || name == "metrics.jsonl" || name == "updates.jsonl";
      if (is_of_the_run) fs::copy_file(entry.path(), folder_ / name, fs::copy_options::overwrite_existing);
    }
    for (const auto& entry : fs::directory_iterator(checkpoints)) {
      const auto extension = entry.path().extension();
      if (extension == ".h5") link_or_copy(entry.path(), RunPaths(folder_).checkpoints() / entry.path().filename());
      if (extension == ".json") fs::copy_file(entry.path(), RunPaths(folder_).checkpoints() / entry.path().filename());
    }
    return;
  }
}

std::vector<std::string> training_command(const SweepConfig& sweep, const Point& point, const std::string& program) {
  std::vector<std::string> words;
  if (sweep.run.ranks_per_trial > 1) {
    std::istringstream mpirun(sweep.run.mpirun);
    words.assign(std::istream_iterator<std::string>(mpirun), {});
    words.insert(words.end(), {"-n", std::to_string(sweep.run.ranks_per_trial)});
  }
  words.insert(words.end(), {program, "train", sweep.base->string()});
  for (const std::string& word : training_overrides(sweep, point)) words.push_back(word);
  return words;
}

std::vector<std::string> TrialRun::command() const {
  std::vector<std::string> words = training_command(sweep_, decision_.point, fs::read_symlink("/proc/self/exe").string());
  words.insert(words.end(), {"--run-dir", folder_.string(), "--progress", "plain"});
  if (decision_.until > 0) words.insert(words.end(), {"--until", std::to_string(decision_.until)});
  return words;
}

RecordedAttempt TrialRun::recorded() const {
  const fs::path metrics = RunPaths(folder_).metrics();
  return fs::exists(metrics) ? read_metrics(metrics, 1) : RecordedAttempt{};
}

std::vector<Outcome::Evaluated> TrialRun::curve() const {
  std::vector<Outcome::Evaluated> curve;
  for (const EvalRecord& validation : recorded().validations) {
    std::map<std::string, double> metrics;
    add_split(metrics, "val", validation.loss, validation.accuracy);
    curve.push_back({static_cast<double>(validation.epoch), score(sweep_.objectives, metrics)});
  }
  return curve;
}

Outcome TrialRun::outcome(int exit_code) const {
  Outcome outcome;
  outcome.folder = folder_.lexically_relative(sweep_.dir).string();
  const std::string said = last_line(output());
  const auto result = exit_code == 0 || exit_code == static_cast<int>(ExitCode::run_again) ? read_result(RunPaths(folder_).result()) : std::nullopt;
  if (result) {
    if (const auto validations = recorded().validations; !validations.empty()) {   // who is asked to stop does not evaluate once more
      add_split(outcome.metrics, "val", validations.back().loss, validations.back().accuracy);
    }
    for (const auto& [split, figures] : result->splits) add_split(outcome.metrics, short_name(split), figures.loss, figures.accuracy);
    outcome.metrics["cost/seconds"] = result->seconds;
    outcome.epochs = static_cast<double>(result->epochs);
    outcome.state = result->reason == "signal" ? Outcome::State::preempted : Outcome::State::done;
    if (outcome.state == Outcome::State::done && std::isinf(score(sweep_.objectives, outcome.metrics))) {
      outcome.state = Outcome::State::diverged;
      outcome.why = "an objective is missing or not finite";
    }
    std::erase_if(outcome.metrics, [](const auto& metric) { return !std::isfinite(metric.second); });
    return outcome;
  }
  const auto code = static_cast<ExitCode>(exit_code);
  const bool refused = code == ExitCode::usage || code == ExitCode::config || code == ExitCode::bad_data;
  outcome.state = refused ? Outcome::State::refused : code == ExitCode::internal && recorded().nonfinite ? Outcome::State::diverged : Outcome::State::crashed;
  outcome.why = said.empty() ? describe_exit(exit_code) : fmt::format("{}: {}", describe_exit(exit_code), said);
  return outcome;
}

}  // namespace tugline::sweep
