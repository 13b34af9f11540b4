// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace tugline {

/// A counter in memory that several ranks map: one rank raises it, others wait for it. Counts wrap around; a waiter may be at
/// most 2^31 behind. Zeroed memory is a valid Signal at 0. Lives alone on its cache line.
struct alignas(64) Signal {
  std::atomic<std::uint32_t> value{0};
  std::atomic<std::uint32_t> sleepers{0};
};

/// Everything written before raise() is seen by those who saw the value.
void raise(Signal& signal, std::uint32_t value) noexcept;
bool has_reached(const Signal& signal, std::uint32_t value) noexcept;

/// How to wait. Spinning answers fastest but takes the core from the rank that is waited for when ranks outnumber cores; yielding
/// costs microseconds and works in both cases; sleeping gives the core away for good.
struct Patience {
  int spins = 0;                 ///< looks before the first yield: only where every rank has a core
  double yield_seconds = 2e-3;   ///< how long to yield before sleeping on a futex
};

/// Waits until `signal` has reached `value`. `idle` is called about every ten milliseconds of a long wait and may throw: the place to
/// find out that the other rank has failed.
void wait_until(Signal& signal, std::uint32_t value, const Patience& patience, const std::function<void()>& idle);

}  // namespace tugline
