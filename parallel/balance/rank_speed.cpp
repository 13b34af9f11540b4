// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/balance/rank_speed.hpp"

#include <algorithm>
#include <cmath>

namespace tugline {
namespace {

constexpr double kMaxBand = 0.5;             // however noisy, a step of twice the time is no noise
constexpr double kMinGain = 0.02;            // weight of a new step once many were seen
constexpr double kMaxFixedPart = 0.7;        // of a step; more makes cuts that overshoot
constexpr double kFixedPartSpread = 0.3;     // standard deviation of what it is, before anything is known
constexpr double kLeastMove = 0.1;           // of a share, to learn from
constexpr std::int64_t kSecondLook = 8;      // steps at a new share, when it is known better

double median(std::array<double, 3> values) {
  std::sort(values.begin(), values.end());
  return values[1];
}

}  // namespace

double RankSpeed::observe(double seconds) {
  std::copy_backward(recent_.begin(), recent_.end() - 1, recent_.end());
  recent_[0] = seconds;
  if (++fit_.steps <= kSettleSteps) {
    if (known()) fit_.seconds = median(recent_);   // one of three may have been disturbed
    if (known()) learn_fixed_part();
    return 1;
  }
  const double band = std::clamp(3 * std::sqrt(fit_.variance), kJump, kMaxBand);
  const double deviation = seconds / std::max(fit_.seconds, 1e-12) - 1;
  if (std::abs(deviation) <= band) {
    far_ = 0;
  } else {
    far_ = deviation > 0 ? std::max(far_, 0) + 1 : std::min(far_, 0) - 1;
  }
  if (std::abs(far_) >= kJumpSteps) {
    const double factor = median(recent_) / std::max(fit_.seconds, 1e-12);
    fit_.seconds *= factor;
    fit_.fixed_seconds *= factor;
    fit_.steps = kSettleSteps;
    far_ = 0;
    anchor_ = {};
    return factor;
  }
  const double inside = std::clamp(deviation, -band, band);   // Huber: a step that was disturbed moves it no further
  const double gain = std::max(1 / static_cast<double>(fit_.steps), kMinGain);
  fit_.seconds *= 1 + gain * inside;
  fit_.variance += gain * (inside * inside - fit_.variance);
  if (fit_.steps == kSecondLook) learn_fixed_part();
  return 1;
}

void RankSpeed::move(std::int64_t share) {
  if (share == share_) return;
  if (known()) anchor_ = {share_, fit_.seconds, uncertainty()};
  const double sample_seconds = cost().sample_seconds;
  fit_.seconds = fit_.fixed_seconds + static_cast<double>(share) * sample_seconds;
  fit_.steps = 0;
  far_ = 0;
  share_ = share;
}

/// The secant through what was measured at two shares; the less sure it is, the less it counts.
void RankSpeed::learn_fixed_part() {
  if (anchor_.share == 0 || share_ == 0) return;
  const auto move = static_cast<double>(share_ - anchor_.share);
  const double relative_move = std::abs(move) / static_cast<double>(std::max(share_, anchor_.share));
  if (relative_move < kLeastMove) return;
  const double sample_seconds = (fit_.seconds - anchor_.seconds) / move;
  const double fixed = std::clamp(fit_.seconds - sample_seconds * static_cast<double>(share_), 0.0, kMaxFixedPart * fit_.seconds);
  const double error = std::sqrt(anchor_.uncertainty * anchor_.uncertainty + uncertainty() * uncertainty()) / relative_move;
  const double weight = kFixedPartSpread * kFixedPartSpread / (kFixedPartSpread * kFixedPartSpread + error * error);
  fit_.fixed_seconds += weight * (fixed - fit_.fixed_seconds);
  fit_.fixed_seconds = std::min(fit_.fixed_seconds, kMaxFixedPart * fit_.seconds);
}

StepCost RankSpeed::cost() const {
  const auto samples = static_cast<double>(std::max<std::int64_t>(share_, 1));
  return {fit_.fixed_seconds, std::max(fit_.seconds - fit_.fixed_seconds, 1e-12) / samples};
}

double RankSpeed::uncertainty() const {
  const double effective = std::clamp(static_cast<double>(fit_.steps), 1.0, 2 / kMinGain - 1);
  return std::sqrt(fit_.variance / effective);
}

}  // namespace tugline
