// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/patience.hpp"

#include <limits>

#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"

namespace tugline::sweep {

Patience::Patience(double seconds, Trust trust, const Clock& clock)
    : seconds_(seconds), clock_(clock),
      succeeded_(trust == Trust::from_the_start ? clock.seconds() : -std::numeric_limits<double>::infinity()) {}

bool Patience::try_call(const std::function<void()>& call) {
  try {
    call();
  } catch (const IoError& error) {
    if (seconds_since_success() > seconds_) throw;
    log::warn("{}; trying again", error.what());
    return false;
  }
  renew();
  return true;
}

}  // namespace tugline::sweep
