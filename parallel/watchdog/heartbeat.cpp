// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/watchdog/heartbeat.hpp"

#include <algorithm>

namespace tugline {

const char* name_of(Phase phase) {
  switch (phase) {
    case Phase::idle: return "idle";
    case Phase::data: return "waiting for data";
    case Phase::compute: return "computing";
    case Phase::exchange: return "exchanging with other ranks";
    case Phase::evaluation: return "evaluating";
    case Phase::checkpoint: return "saving";
  }
  return "?";
}

std::size_t Heartbeat::kind_of(Phase phase) noexcept {
  switch (phase) {
    case Phase::idle: return 0;
    case Phase::evaluation: return 2;
    case Phase::checkpoint: return 3;
    default: return 1;
  }
}

void Heartbeat::enter(Phase phase, std::int64_t step) noexcept {
  const double now = clock_.seconds();
  std::atomic<double>& longest = longest_[kind_of(phase_.load(std::memory_order_relaxed))];
  longest.store(std::max(longest.load(std::memory_order_relaxed), now - since_.load(std::memory_order_relaxed)), std::memory_order_relaxed);
  phase_.store(phase, std::memory_order_relaxed);
  step_.store(step, std::memory_order_relaxed);
  since_.store(now, std::memory_order_relaxed);
}

}  // namespace tugline
