// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "tugline/trainers/sweep/decision.hpp"

namespace tugline::sweep {

/// Asynchronous successive halving in its promotion form (Li et al. 2020, "A system for massively parallel hyperparameter tuning"): a trial
/// pauses at each rung, and goes on to the next when it is among the best 1/eta of those that have come as far. docs/search-methods.md says
/// what is done otherwise.
class SuccessiveHalving {
 public:
  SuccessiveHalving(const StopSettings& settings, std::span<const Objective> objectives) : settings_(settings), objectives_(objectives) {}

  int rungs() const;
  std::int64_t epochs_at(int rung) const;
  struct Promotion {
    std::int64_t trial = 0;
    int rung = 0;        ///< to which it goes on
  };
  /// From the highest rung down; nullopt: nobody is to go on. `known`: how many of the jobs may be taken to have ended.
  std::optional<Promotion> promotion(std::span<const JobRecord> jobs, std::size_t known) const;

 private:
  StopSettings settings_;
  std::span<const Objective> objectives_;
};

}  // namespace tugline::sweep
