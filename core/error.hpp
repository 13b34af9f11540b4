// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <source_location>
#include <stdexcept>
#include <string>

namespace tugline {

/// What a process of Tugline returns to the shell; docs/exit-codes.md says what to do about each.
enum class ExitCode : int {
  done = 0,
  internal = 1,        ///< a bug, or an error of a library that nothing below foresaw
  usage = 2,           ///< wrong command line
  check_said_no = 3,   ///< overfit, verify or a data check: the answer is no
  bad_data = 65,
  io = 74,             ///< disk full, unreadable file, checkpoint that cannot be written or verified
  run_again = 75,      ///< stopped early with a checkpoint: the same command continues
  hang = 76,
  disagree = 77,       ///< ranks were given different configs, models or data, or call different collectives
  config = 78,
};

/// Root of everything Tugline throws. `what()` is one sentence for the user; it names the file, line, key or rank.
/// An error that every rank sees for itself in the same way (bad config, bad data) is `collective()`: the ranks agree on it
/// and rank 0 prints it once. Everything else is printed by the rank that saw it, which then aborts the job.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& what, std::source_location where = std::source_location::current())
      : Error(ExitCode::internal, what, where) {}

  ExitCode exit_code() const noexcept { return exit_code_; }
  /// Where it was thrown; shown by --verbose only.
  const std::source_location& where() const noexcept { return where_; }

 protected:
  Error(ExitCode code, const std::string& what, std::source_location where)
      : std::runtime_error(what), exit_code_(code), where_(where) {}

 private:
  ExitCode exit_code_;
  std::source_location where_;
};

/// One line per kind, so that a catch can tell them apart and each has its exit code.
#define TUGLINE_ERROR_KIND(Name, Code)                                                                     \
  class Name : public Error {                                                                              \
   public:                                                                                                 \
    explicit Name(const std::string& what, std::source_location where = std::source_location::current())   \
        : Error(ExitCode::Code, what, where) {}                                                            \
  };
TUGLINE_ERROR_KIND(UsageError, usage)
TUGLINE_ERROR_KIND(ConfigError, config)
TUGLINE_ERROR_KIND(DataError, bad_data)
TUGLINE_ERROR_KIND(IoError, io)
TUGLINE_ERROR_KIND(CheckpointError, io)
TUGLINE_ERROR_KIND(CommError, internal)
#undef TUGLINE_ERROR_KIND

}  // namespace tugline
