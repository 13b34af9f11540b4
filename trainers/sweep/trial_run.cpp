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
#include <fmt/ranges.h>

#include "tugline/core/error.hpp"
#include "tugline/trainers/launch/process_tree.hpp"
#include "tugline/trainers/run/result.hpp"
#include "tugline/trainers/run/run_directory.hpp"
#include "tugline/trainers/sweep/space/points.hpp"

namespace tugline::sweep {
namespace {

namespace fs = std::filesystem;

std::string name_of_job(std::int64_t job) { return fmt::format("job-{:06}.", job); }

bool has_checkpoints(const fs::path& run) {
  std::error_code error;   // it may have none
  return std::any_of(fs::directory_iterator(RunPaths(run).checkpoints(), error), fs::directory_iterator(),
                     [](const auto& entry) { return entry.path().extension() == ".h5"; });
}

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
    : sweep_(sweep), decision_(decision), trial_folder_(std::move(trial_folder)), folder_(trial_folder_ / fmt::format("{}{:03}", name_of_job(job), attempt)) {}

/// Folders of attempts at these jobs before this one, newest first. Of others in the trial's folder the decision was lost: their point may have
/// been another.
std::vector<fs::path> TrialRun::earlier(std::span<const std::int64_t> jobs) const {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(trial_folder_)) {
    const std::string name = entry.path().filename().string();
    const bool is_ours = std::any_of(jobs.begin(), jobs.end(), [&](std::int64_t job) { return name.starts_with(name_of_job(job)); });
    if (is_ours && entry.is_directory() && name < folder_.filename()) folders.push_back(entry.path());
  }
  std::sort(folders.rbegin(), folders.rend());
  return folders;
}

void TrialRun::take_over(const fs::path& from) const {
  fs::create_directories(RunPaths(folder_).checkpoints());
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    const bool is_of_the_run = name == ".tugline-run" || name == "config.yaml" || name == "metrics.jsonl" || name == "updates.jsonl";
    if (is_of_the_run) fs::copy_file(entry.path(), folder_ / name, fs::copy_options::overwrite_existing);
  }
  for (const auto& entry : fs::directory_iterator(RunPaths(from).checkpoints())) {
    const auto extension = entry.path().extension();
    const fs::path to = RunPaths(folder_).checkpoints() / entry.path().filename();
    if (extension == ".h5") link_or_copy(entry.path(), to);
    if (extension == ".json") fs::copy_file(entry.path(), to, fs::copy_options::overwrite_existing);
  }
}

void TrialRun::prepare(std::span<const std::int64_t> jobs) const try {
  fs::create_directories(trial_folder_);
  for (const fs::path& from : earlier(jobs)) {
    if (has_checkpoints(from)) return take_over(from);
  }
} catch (const fs::filesystem_error& error) {
  throw IoError(fmt::format("{}: cannot be made ready for a training ({})", folder_.string(), error.code().message()));
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
  std::vector<std::string> words = training_command(sweep_, decision_.point, own_program());
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

/// A metric that the training does not have, it will not have the next time either.
void TrialRun::judge(Outcome& outcome) const {
  for (const Objective& objective : sweep_.objectives) {
    if (objective.weight == 0) continue;
    const auto metric = outcome.metrics.find(objective.metric);
    if (metric == outcome.metrics.end()) {
      std::vector<std::string> names;
      for (const auto& [name, value] : outcome.metrics) names.push_back(name);
      outcome.state = Outcome::State::refused;
      outcome.why = fmt::format("objective {}: the training has no such metric, it has {}", objective.metric, fmt::join(names, ", "));
      return;
    }
    if (std::isfinite(metric->second)) continue;
    outcome.state = Outcome::State::diverged;
    outcome.why = fmt::format("objective {}: not finite", objective.metric);
  }
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
    if (outcome.state == Outcome::State::done) judge(outcome);
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
