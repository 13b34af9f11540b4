// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

namespace tugline {

/// Time is injected, so that protocols, balancers and time limits can be simulated. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  /// Seconds since an arbitrary fixed point; never goes back.
  virtual double seconds() const = 0;
  /// The machine's own steady clock; lives for the whole process.
  static const Clock& steady();
};

/// Seconds for which the calling thread has had a core.
double thread_cpu_seconds();

}  // namespace tugline
