// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tugline/core/clock.hpp"
#include "tugline/trainers/doctor/speed_work.hpp"

namespace tugline {

class World;

/// How one kind of work went on one rank, in rounds that are the same work on every rank.
struct RoundFacts {
  std::int64_t rounds = 0;
  double median_seconds = 0;  ///< of a round
  double best_seconds = 0;
  double p90_seconds = 0;  ///< nine of ten rounds took no longer
  double per_second = 0;   ///< operations or bytes, over all rounds but the fastest and the slowest tenth
};

/// What one rank did while all others did the same.
struct SpeedFacts {
  int rank = 0;
  std::string host;
  RoundFacts arithmetic, memory;
  double cpu_share = 1;  ///< of the wall time of the rounds: the CPU time that the rank got
};

/// CPU time of the thread that asks.
const Clock& thread_cpu_clock();

struct ProbePlan {
  double total_seconds = 5;     ///< half for each kind
  double round_seconds = 0.05;  ///< on the fastest rank
  const Clock& wall = Clock::steady();
  const Clock& cpu = thread_cpu_clock();
};

/// Collective; all ranks get the facts of all, in rank order. All run the same kind of work at the same time, on one thread
/// each.
std::vector<SpeedFacts> probe_speeds(World& world, SpeedWork& arithmetic, SpeedWork& memory, const ProbePlan& plan = {});

}  // namespace tugline
