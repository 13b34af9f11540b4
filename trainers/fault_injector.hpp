// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace tugline {

class Arena;
class Heartbeat;

/// Something that goes wrong on purpose, for drills and tests: "kill:rank=1,step=7" (docs/launch.md).
struct Fault {
  enum class Kind {
    kill,   ///< SIGKILL, before the step
    freeze, ///< SIGSTOP, before the step
    hang,   ///< the rank never comes back from computing the step
    loader, ///< the same from waiting for the step's data
    slow,   ///< `seconds` more for this step
    nan,    ///< the gradient of one parameter is not a number in this step
    flip,   ///< one bit of one parameter changes after the step
    flip_gradient, ///< one bit of one element of this rank's gradient changes in this step, before it is added to those of others
    io,     ///< what the rank writes of the first checkpoint from this step on cannot be written
  };
  Kind kind = Kind::kill;
  int rank = 0;
  std::int64_t step = 1;       ///< of the run, from 1
  std::int64_t last_step = 0;  ///< the last one that it happens in; 0: `step`
  std::int64_t times = 1;      ///< how often each in the whole run, all attempts together; 0: whenever it comes to that step
  double seconds = 1;          ///< of `slow`
  int bit = -1;                ///< of `flip_gradient`, 0 the lowest; -1: one drawn for this rank and step, as the element is
  std::string text;            ///< as it was given
};

/// Throws UsageError that names the word.
Fault parse_fault(const std::string& text);

/// Makes the faults of one rank happen. What happened is remembered in `folder`/faults.log, so that a run that is started again goes on
/// without it. before_save() may come from another thread than the others.
class FaultInjector {
 public:
  FaultInjector(const std::vector<Fault>& faults, int rank, const std::filesystem::path& folder);
  ~FaultInjector();

  void before_step(std::int64_t step, Arena& parameters, Heartbeat& heartbeat);
  void after_step(std::int64_t step, Arena& parameters);
  /// Throws IoError where a fault says so.
  void before_save(std::int64_t step);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tugline
