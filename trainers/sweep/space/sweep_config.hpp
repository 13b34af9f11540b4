// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tugline/trainers/sweep/space/points.hpp"
#include "tugline/trainers/sweep/space/space.hpp"

namespace tugline::sweep {

struct Objective {
  std::string metric;        ///< of a config: {train,val,test}/{loss,accuracy,error} or cost/seconds; else any name
  bool maximise = false;
  double weight = 1;         ///< >= 0
};

/// An entry of `space:`, as it was written.
struct Parameter {
  Dimension dimension;       ///< without parents; its key may hold an [i]
  std::string when;          ///< empty: always
  std::string repeat;        ///< `for`: which elements [i] there are
  std::size_t elements = 1;  ///< at most so many dimensions are made of it
};

struct StopSettings {
  std::string rule = "none"; ///< none, median, asha
  std::int64_t min = 1;      ///< epochs, before which nothing is stopped
  std::int64_t max = 0;      ///< asha: epochs of a whole trial
  std::int64_t eta = 3;      ///< asha: one of so many goes on
  std::int64_t warmup_trials = 5;   ///< median: so many are never stopped
};

struct TrialSettings {
  int ranks_per_trial = 1;
  int max_attempts = 3;
  double lease_seconds = 120;
  std::optional<double> timeout_seconds;   ///< of one attempt
  std::string mpirun = "mpirun -q --oversubscribe --bind-to none";   ///< of trials with several ranks
};

/// A sweep's file with every default filled in, and its space. A value: copy it, read it from any thread.
struct SweepConfig {
  std::string name;                            ///< default: the file's stem
  std::filesystem::path dir;                   ///< default: runs/NAME; relative to the working directory
  std::optional<std::filesystem::path> base;   ///< absolute; none: the trials are of a program that is not ours, and keys are free names
  std::string base_text;                       ///< as it was written
  std::string base_digest;                     ///< of the file's bytes; empty: there is none
  std::uint64_t seed = 0;
  std::vector<Objective> objectives;
  std::vector<Parameter> parameters;           ///< in the order of the file
  std::vector<std::string> forbid;
  Space space{std::vector<Dimension>{}};       ///< parents before children, else in the order of the file
  std::vector<PartialPoint> first;
  std::string method = "auto";                 ///< auto, grid, random, sobol, tpe, gp, regevo
  StopSettings stop;
  std::int64_t trials = 100;                   ///< the budget: accepted ones
  TrialSettings run;
  std::optional<std::int64_t> lag;             ///< of `repeat`; none: nothing waits
};

/// Of the bytes of a base, for SweepConfig::base_digest; of none where it cannot be read.
std::string digest_of_base(const std::filesystem::path& base);

/// Throws ConfigError with everything that is wrong, a line each with file:line:column. The base is not read; its existence is checked.
SweepConfig load_sweep(const std::filesystem::path& file);
/// The same for YAML text; `name` stands for the file.
SweepConfig parse_sweep(const std::string& yaml, const std::string& name);

/// One line of JSON: equal for two processes that serve the same sweep, wherever its folder is mounted. `budget` and `run` may differ.
std::string to_json(const SweepConfig& sweep);

}  // namespace tugline::sweep
