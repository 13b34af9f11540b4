// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "tugline/core/clock.hpp"

namespace tugline::sweep {

/// Waits for a file system that says "not now": a server that starts anew is no reason to lose a training. After a lease without a call
/// that succeeded it is one. One thread.
class Patience {
 public:
  enum class Trust {
    from_the_start,   ///< as if a call had just succeeded
    once_earned,      ///< the first call must succeed: whoever may not write in a folder is told at once
  };
  explicit Patience(double seconds, Trust trust = Trust::from_the_start, const Clock& clock = Clock::steady());

  /// Whether the call has succeeded; false: it threw an IoError, of which a warning tells, and may be made again. Throws that error when
  /// none has succeeded for more than `seconds`.
  bool try_call(const std::function<void()>& call);
  /// Something else has shown that all is well, or has taken so long that the last success says nothing.
  void renew() { succeeded_ = clock_.seconds(); }
  double seconds_since_success() const { return clock_.seconds() - succeeded_; }   ///< infinity: there was none

 private:
  double seconds_;
  const Clock& clock_;
  double succeeded_;
};

}  // namespace tugline::sweep
