// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace tugline {

/// How a run ended: its result.json.
struct Result {
  static constexpr const char* kDone = "done";        ///< nothing is left to do
  static constexpr const char* kStopped = "stopped";  ///< asked to stop; the same command goes on
  static constexpr const char* kFailed = "failed";

  struct Split {
    double loss = 0;
    std::optional<double> accuracy;
    bool operator==(const Split&) const = default;
  };
  std::string status = kDone;
  std::string reason;  ///< why it ended: "epochs", "steps", "early stop", "time limit", ...; may be empty
  int ranks = 1;
  std::int64_t epochs = 0;  ///< begun
  std::int64_t steps = 0;   ///< done
  double seconds = 0;       ///< training, all attempts
  double samples_per_second = 0;
  std::map<std::string, Split> splits;  ///< "train", "validation", "test"; keys of their own in the file
  std::string checkpoint;               ///< of the last step, relative to the run's folder; may be empty
  std::string best_checkpoint;          ///< may be empty
  bool operator==(const Result&) const = default;
};

/// Atomically; throws IoError.
void write_result(const std::filesystem::path& file, const Result& result);
/// Nullopt where there is no such file. Throws IoError on one that is no result.
std::optional<Result> read_result(const std::filesystem::path& file);

}  // namespace tugline
