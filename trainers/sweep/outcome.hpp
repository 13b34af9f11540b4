// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tugline/trainers/sweep/space/sweep_config.hpp"

namespace tugline::sweep {

/// How an attempt at a job ended.
struct Outcome {
  enum class State {
    done,        ///< it reached the epoch that was wanted, or its end
    stopped,     ///< the stopping rule ended it before
    diverged,    ///< a loss or gradient was not finite
    refused,     ///< command line, config or data: it would fail again
    crashed,     ///< any other end
    timed_out,   ///< it took longer than run.timeout
    lost,        ///< its worker fell silent
    preempted,   ///< somebody asked to stop; it has a checkpoint
  };
  struct Evaluated {
    double epochs = 0;   ///< done before
    double value = 0;    ///< of the objectives, to be made small
    bool operator==(const Evaluated&) const = default;
  };
  State state = State::done;
  int attempt = 1;
  std::map<std::string, double> metrics;   ///< "val/error" -> 0.012; those that are finite
  std::vector<Evaluated> curve;            ///< oldest first
  double epochs = 0;                       ///< that are done, all attempts
  double seconds = 0;                      ///< of this attempt, by its worker's clock
  std::string folder;                      ///< of the run, relative to the sweep's; empty: none
  std::string why;                         ///< one sentence; may be empty
  bool operator==(const Outcome&) const = default;

  /// What it says about the point is all there is to know: no other attempt would say more.
  bool has_value() const { return state == State::done || state == State::stopped; }
};

std::string_view name_of(Outcome::State state);
std::string to_json(const Outcome& outcome);   ///< one line; numbers as text, which reads back to the bit
/// Throws DataError when it is none.
Outcome outcome_from_json(std::string_view json);

/// The weighted sum of the objectives, those to be made large with a minus: to be made small. Infinity when it has no value, or a metric
/// with a weight is missing.
double score(std::span<const Objective> objectives, const Outcome& outcome);
double score(std::span<const Objective> objectives, const std::map<std::string, double>& metrics);

}  // namespace tugline::sweep
