// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "tugline/core/clock.hpp"

namespace tugline {

/// What a rank is doing. `exchange` is the only one in which it waits for other ranks.
enum class Phase : std::uint8_t { idle, data, compute, exchange, evaluation, checkpoint };
const char* name_of(Phase phase);

/// Where one rank stands, written by the thread that trains and read by any other.
class Heartbeat {
 public:
  explicit Heartbeat(const Clock& clock = Clock::steady()) : clock_(clock), since_(clock.seconds()) {}

  /// A phase begins, or goes on and has brought something.
  void enter(Phase phase, std::int64_t step) noexcept;
  void enter(Phase phase) noexcept { enter(phase, step_.load(std::memory_order_relaxed)); }

  Phase phase() const noexcept { return phase_.load(std::memory_order_relaxed); }
  std::int64_t step() const noexcept { return step_.load(std::memory_order_relaxed); }
  double since() const noexcept { return since_.load(std::memory_order_relaxed); }   ///< by `clock`, seconds
  /// The longest time from one call of enter() to the next so far, in phases of the same kind (those of a step are one kind); 0: none yet.
  double longest(Phase phase) const noexcept { return longest_[kind_of(phase)].load(std::memory_order_relaxed); }
  const Clock& clock() const noexcept { return clock_; }

 private:
  static std::size_t kind_of(Phase phase) noexcept;
  const Clock& clock_;
  std::atomic<Phase> phase_{Phase::idle};
  std::atomic<std::int64_t> step_{0};
  std::atomic<double> since_;
  std::array<std::atomic<double>, 4> longest_{};
};

}  // namespace tugline
