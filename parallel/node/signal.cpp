// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/node/signal.hpp"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <type_traits>

#include "tugline/core/clock.hpp"

namespace tugline {
namespace {

static_assert(std::is_trivially_destructible_v<Signal> && std::atomic<std::uint32_t>::is_always_lock_free);

constexpr long kSleepNanoseconds = 10'000'000;

void pause_briefly() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

std::uint32_t* word_of(Signal& signal) noexcept { return reinterpret_cast<std::uint32_t*>(&signal.value); }

/// Sleeps until somebody raises the signal from `seen`, or for ten milliseconds. Not FUTEX_PRIVATE: the waiter may be another process.
void sleep_on(Signal& signal, std::uint32_t seen) noexcept {
  const timespec limit{0, kSleepNanoseconds};
  syscall(SYS_futex, word_of(signal), FUTEX_WAIT, seen, &limit, nullptr, 0);
}

}  // namespace

void raise(Signal& signal, std::uint32_t value) noexcept {
  // Sequentially consistent on both sides: either the sleeper sees the new value or we see the sleeper.
  signal.value.store(value, std::memory_order_seq_cst);
  if (signal.sleepers.load(std::memory_order_seq_cst) != 0) {
    syscall(SYS_futex, word_of(signal), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  }
}

bool has_reached(const Signal& signal, std::uint32_t value) noexcept {
  return static_cast<std::int32_t>(signal.value.load(std::memory_order_acquire) - value) >= 0;
}

void wait_until(Signal& signal, std::uint32_t value, const Patience& patience, const std::function<void()>& idle) {
  for (int i = 0; i < patience.spins; ++i) {
    if (has_reached(signal, value)) return;
    pause_briefly();
  }
  if (has_reached(signal, value)) return;
  const Clock& clock = Clock::steady();
  const double start = clock.seconds();
  while (clock.seconds() - start < patience.yield_seconds) {
    sched_yield();
    if (has_reached(signal, value)) return;
  }
  while (true) {
    idle();
    signal.sleepers.fetch_add(1, std::memory_order_seq_cst);
    const std::uint32_t seen = signal.value.load(std::memory_order_seq_cst);
    if (static_cast<std::int32_t>(seen - value) < 0) sleep_on(signal, seen);
    signal.sleepers.fetch_sub(1, std::memory_order_seq_cst);
    if (has_reached(signal, value)) return;
  }
}

}  // namespace tugline
