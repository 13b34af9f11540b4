// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "tugline/core/metrics/sink.hpp"
#include "tugline/parallel/strategy.hpp"

namespace tugline {

/// Makes records of steps that are finished, one at a time or several at once, from what this rank spent on them. One thread.
class StepLog {
 public:
  /// `clips`: gradients have a norm to tell. `log` must outlive it.
  StepLog(RunLog& log, std::int64_t total_steps, bool clips) : log_(log), total_steps_(total_steps), clips_(clips) {}

  /// This rank's time and bytes, before the steps of `facts` are recorded: they share what was spent since the ones before.
  void spend(const StepFacts& facts);
  void record(const GlobalStep& step, double seconds);
  /// All ranks hold the same after `steps`: how old gradients were since they last did.
  void settled(std::int64_t steps);

 private:
  RunLog& log_;
  std::int64_t total_steps_;
  bool clips_;
  bool unfinished_ = false;     // no step has finished since
  StepRecord::Seconds spent_;   // per step that has just finished
  std::int64_t bytes_ = 0;
  Staleness staleness_;
};

}  // namespace tugline
