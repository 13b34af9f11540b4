// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tugline/trainers/sweep/sweep_folder.hpp"

namespace tugline::sweep {

/// A trial as a table shows it.
struct TrialRow {
  std::int64_t trial = 0;
  Point point;
  std::string state;          ///< "running", "paused", "done", "crashed", ...
  double epochs = 0;
  double value = 0;           ///< what is made small; infinity: none
  int attempts = 0;           ///< all, a rung of successive halving being one at least
  int retries = 0;            ///< those that had to be made because one failed or was lost
  Outcome outcome;            ///< the newest final one
};
/// One per trial, by number, as of the last refresh. `weights` replace those of the file; a metric that is none of its objectives is made
/// small, an accuracy large.
std::vector<TrialRow> trial_rows(const SweepFolder& folder, const std::map<std::string, double>& weights = {});
/// Best first: those that came furthest, then by value; without those that have none.
std::vector<TrialRow> ranked(std::vector<TrialRow> rows);

std::string plan_text(SweepFolder& folder);
std::string status_text(SweepFolder& folder);
/// "17/30 trials  2 running  3 done  best 0.01046 (trial 7)", as of the last refresh.
std::string progress_text(const SweepFolder& folder);
std::string best_text(const SweepFolder& folder);
std::string rank_text(const SweepFolder& folder, const std::map<std::string, double>& weights, std::size_t rows);
std::string export_csv(const SweepFolder& folder);
std::string export_jsonl(const SweepFolder& folder);

/// Tells of jobs that have ended since it was made, or last did.
class NewEnds {
 public:
  explicit NewEnds(SweepFolder& folder) : folder_(folder) { lines(); }
  std::vector<std::string> lines();

 private:
  SweepFolder& folder_;
  struct Told {
    std::size_t ends = 0;   // final ones
    bool is_lost = false;
  };
  std::vector<Told> told_;   // per job
};

}  // namespace tugline::sweep
