// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/trainers/launch/signal_inbox.hpp"
#include "tugline/trainers/sweep/patience.hpp"
#include "tugline/trainers/sweep/sweep_folder.hpp"

namespace tugline::sweep {

/// Does jobs of a sweep, one after the other, until there are no more or it is asked to stop; beside any number of others, here and
/// elsewhere. Not for a process with other threads: it takes signals.
class Worker {
 public:
  explicit Worker(const SweepConfig& sweep);

  /// `done`: the sweep is over. `run_again`: it was asked to stop, its trial has saved and will be continued by whoever comes next.
  ExitCode run();

 private:
  std::optional<ClaimedJob> find_work();
  bool over() const;
  void attempt(const ClaimedJob& work);
  Outcome watch(const ClaimedJob& work);
  bool stop_early(const ClaimedJob& work, const std::vector<Outcome::Evaluated>& curve) const;
  void beat();
  bool finish(const ClaimedJob& work, const AttemptEnd& end);
  void rest(double seconds);

  const SweepConfig& sweep_;
  SweepFolder folder_;
  SignalInbox inbox_;
  bool asked_ = false, finished_ = false;
  Patience beats_, reads_;   // reads_: of the store
};

}  // namespace tugline::sweep
