// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tugline/core/metrics/sink.hpp"

namespace tugline {

/// What a run's metrics.jsonl says about its newest attempt, whether that has ended or goes on.
struct RecordedAttempt {
  /// The batch was cut into other shares.
  struct Balance {
    std::int64_t step = 0;
    std::vector<std::int64_t> shares;  ///< in rank order
    std::string reason;
    bool of_earlier = false;           ///< an earlier attempt cut it
  };
  std::deque<StepRecord> steps;                   ///< the newest that were recorded, oldest first
  std::map<std::string, EvalRecord> evaluations;  ///< newest per split; of earlier attempts too, unless this one undid them
  std::vector<EvalRecord> validations;            ///< all of the validation split, oldest first; likewise
  std::optional<Balance> balance;                 ///< the newest; likewise
  std::optional<std::int64_t> resumed_at;         ///< steps that were done when it went on
  double last_time = 0;                           ///< unix seconds, of the newest event
  double longest_gap = 0;                         ///< seconds between two events
  bool ended = false;                             ///< by itself, or asked to
  bool nonfinite = false;                         ///< by a loss or gradient that was not finite, or out of line
};

/// Keeps the newest `keep_steps` steps. Lines that do not parse are skipped, also the last one of a file that is being
/// written. Throws IoError when the file cannot be read.
RecordedAttempt read_metrics(const std::filesystem::path& file, std::size_t keep_steps);

/// A line of attempts.jsonl: an attempt that `tugline launch` has seen the end of.
struct PastAttempt {
  std::int64_t number = 0;
  double ended_at = 0;       ///< unix seconds, up to one second too early
  std::int64_t to_step = 0;  ///< of the newest checkpoint then
  std::string end;           ///< in words
  std::string next;          ///< "restart", "done", "stopped", "give up"
};

/// Oldest first; none where there is no such file. Lines that do not parse are skipped.
std::vector<PastAttempt> read_attempts(const std::filesystem::path& file);

/// The host of each rank, from environment.json; empty where that cannot be read.
std::vector<std::string> read_hosts(const std::filesystem::path& file);

}  // namespace tugline
