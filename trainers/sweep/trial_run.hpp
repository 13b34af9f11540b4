// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "tugline/trainers/run/run_records.hpp"
#include "tugline/trainers/sweep/decision.hpp"

namespace tugline::sweep {

/// The training of one attempt, in a run folder of its own, so that an attempt that was given up and still lives disturbs nobody.
class TrialRun {
 public:
  /// `trial_folder`: of all attempts. Nothing is written before prepare().
  TrialRun(const SweepConfig& sweep, const Decision& decision, std::filesystem::path trial_folder, std::int64_t job, int attempt);

  /// Takes over config, events and checkpoints of the newest earlier attempt, at `jobs` of the same trial, that has any. Throws IoError.
  void prepare(std::span<const std::int64_t> jobs) const;
  /// What starts it: tugline train, under mpirun where it has several ranks.
  std::vector<std::string> command() const;
  std::filesystem::path folder() const { return folder_; }
  std::filesystem::path output() const { return folder_.string() + ".log"; }
  /// The validation losses so far, as values of the objectives where those can be told while it runs.
  std::vector<Outcome::Evaluated> curve() const;
  /// How it ended, given what its process returned. State preempted: it was asked to stop, and did.
  Outcome outcome(int exit_code) const;

 private:
  std::vector<std::filesystem::path> earlier(std::span<const std::int64_t> jobs) const;
  void take_over(const std::filesystem::path& from) const;
  void judge(Outcome& outcome) const;
  RecordedAttempt recorded() const;

  const SweepConfig& sweep_;
  const Decision& decision_;
  std::filesystem::path trial_folder_, folder_;
};

/// The words that train a point: `program` train, under mpirun where it has several ranks.
std::vector<std::string> training_command(const SweepConfig& sweep, const Point& point, const std::string& program);
/// What `train` gets on its command line for a point.
std::vector<std::string> training_overrides(const SweepConfig& sweep, const Point& point);

}  // namespace tugline::sweep
