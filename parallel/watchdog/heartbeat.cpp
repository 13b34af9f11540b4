// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/watchdog/heartbeat.hpp"

#include <algorithm>

namespace tugline {

const char* name_of(Phase phase) {
  switch (phase) {
    case Phase::idle: return "idle";
    case Phase::data: return "waiting for data";
    case Phase::compute: return "computing";
    case Phase::waiting: return "waiting for other ranks";
    case Phase::evaluation: return "evaluating";
    case Phase::checkpoint: return "saving";
  }
  return "?";
}

void Heartbeat::begin_step(std::int64_t step) noexcept {
  step_.store(step, std::memory_order_relaxed);
  enter(Phase::compute);
  step_began_ = since_.load(std::memory_order_relaxed);
}

void Heartbeat::end_step() noexcept {
  enter(Phase::compute);
  longest_step_.store(std::max(longest_step(), since_.load(std::memory_order_relaxed) - step_began_), std::memory_order_relaxed);
}

void Heartbeat::enter(Phase phase) noexcept {
  since_.store(clock_.seconds(), std::memory_order_relaxed);
  phase_.store(phase, std::memory_order_release);   // who sees the new phase sees its beginning
}

Heartbeat::Now Heartbeat::now() const noexcept {
  const Phase phase = phase_.load(std::memory_order_acquire);
  return {phase, step_.load(std::memory_order_relaxed), since_.load(std::memory_order_relaxed)};
}

}  // namespace tugline
