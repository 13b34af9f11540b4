// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "tugline/core/clock.hpp"

namespace tugline {

/// What a rank is doing. `waiting` is the only one in which it needs other ranks to go on.
enum class Phase : std::uint8_t { idle, data, compute, waiting, evaluation, checkpoint };
const char* name_of(Phase phase);

/// Where one rank stands, written by the thread that trains and read by any other.
class Heartbeat {
 public:
  explicit Heartbeat(const Clock& clock = Clock::steady()) : clock_(clock), since_(clock.seconds()) {}

  void begin_step(std::int64_t step) noexcept;
  void end_step() noexcept;
  /// A phase begins, or goes on and has brought something.
  void enter(Phase phase) noexcept;

  struct Now {
    Phase phase = Phase::idle;
    std::int64_t step = 0;
    double since = 0;   ///< of the phase, by clock()
  };
  Now now() const noexcept;
  double longest_step() const noexcept { return longest_step_.load(std::memory_order_relaxed); }   ///< seconds; 0: none has ended yet
  const Clock& clock() const noexcept { return clock_; }

 private:
  const Clock& clock_;
  std::atomic<Phase> phase_{Phase::idle};
  std::atomic<std::int64_t> step_{0};
  std::atomic<double> since_;
  std::atomic<double> longest_step_{0};
  double step_began_ = 0;
};

}  // namespace tugline
