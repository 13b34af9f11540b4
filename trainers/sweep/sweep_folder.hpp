// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tugline/trainers/sweep/decision.hpp"
#include "tugline/trainers/sweep/planner.hpp"
#include "tugline/trainers/sweep/store/trial_store.hpp"

namespace tugline::sweep {

/// A job to do, and the right to.
struct ClaimedJob {
  Claim claim;
  Decision decision;
};

/// A sweep's folder: sweep.json (what the sweep is, as its first process had it), the trial store, and a folder per trial. One thread.
class SweepFolder {
 public:
  /// `sweep` must outlive it. Throws ConfigError when the folder holds another sweep.
  explicit SweepFolder(const SweepConfig& sweep);

  const SweepConfig& sweep() const { return sweep_; }
  TrialStore& store() { return store_; }
  Planner& planner() { return planner_; }
  const Planner& planner() const { return planner_; }
  /// Makes the folder, and says in it which sweep it holds. Before anything else is written there.
  void claim();
  /// Reads what has been committed since.
  void refresh();
  std::span<const JobRecord> jobs() const { return jobs_; }
  /// Claims a job that had been begun: its attempt has ended without a result, or its worker is silent. Those that were attempted
  /// run.max_attempts times, and those whose decision is lost, are ended instead. `lease_seconds`: see TrialStore::append.
  std::optional<ClaimedJob> take_over(std::optional<double> lease_seconds = {});
  /// Claims the job that comes after all others; nullopt: another process was first.
  std::optional<ClaimedJob> append(const Decision& decision, std::optional<double> lease_seconds = {});
  /// What the store says of a job, and its decision and ends.
  const Job& job(std::int64_t number) const { return store_.job(number); }
  std::filesystem::path trial_folder(std::int64_t trial) const;
  std::vector<std::int64_t> jobs_of(std::int64_t trial) const;   ///< ascending
  /// Attempts that have crashed, timed out or been lost, and the one that runs, since the job was made or opened again.
  int attempts_spent(std::int64_t number) const;

 private:
  void give_up(const Claim& claim, const std::string& why);
  void end_lost(std::int64_t number);

  struct Version {
    Job::State state{};
    int length = 0;
    bool is_readable = true;   // its decision
    bool operator==(const Version&) const = default;
  };
  const SweepConfig& sweep_;
  std::string description_;
  TrialStore store_;
  Planner planner_;
  std::vector<JobRecord> jobs_;
  std::vector<Version> versions_;
};

}  // namespace tugline::sweep
