// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <vector>

#include "tugline/core/metrics/sink.hpp"

namespace tugline {

/// How long the ranks wait for each other over a number of steps, and for whom. In a step every rank waits for the one that
/// is busy longest; in an asynchronous run each says how long it waited.
class Waiting {
 public:
  /// Before it counts, what came earlier is multiplied by `keep`: below 1, old steps fade. Records of another number of
  /// ranks start anew. A record of one rank or none says how long rank 0 waited.
  void add(const StepRecord& record, double keep = 1);

  double share() const;  ///< of all ranks' time, 0 to 1
  /// The rank that the others wait for. None when they wait for less than `least` of all their time, or mostly for another
  /// one each step: then nobody is slack, and the longest mean is chance.
  std::optional<std::size_t> slack_rank(double least) const;

  const std::vector<double>& busy_seconds() const { return busy_; }  ///< sums, in rank order
  const std::vector<double>& wait_seconds() const { return wait_; }

 private:
  std::vector<double> busy_, wait_, samples_;
  double rank_seconds_ = 0;  // time of all ranks together
};

/// Length of the whole step.
double step_seconds(const StepRecord& record);

}  // namespace tugline
