// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/balance/rank_speed.hpp"

#include <algorithm>
#include <cmath>

namespace tugline {
namespace {

constexpr double kShortest = 1e-9;           // seconds; a clock that says less has not ticked
constexpr double kMaxBand = 0.5;             // however noisy, a step of twice the time is no noise
constexpr double kMinGain = 0.02;            // weight of a new step once many were seen
constexpr double kMaxFixedPart = 0.7;        // of a step at the usual share; more makes cuts that overshoot
constexpr double kFixedPartSpread = 0.3;     // standard deviation of what it is, before anything is known
constexpr double kLeastMove = 0.1;           // of a share, to learn from
constexpr std::int64_t kSecondLook = 8;      // steps at a new share, when it is known better

double median(std::array<double, 3> values) {
  std::sort(values.begin(), values.end());
  return values[1];
}

}  // namespace

RankSpeed::RankSpeed(std::int64_t share, std::int64_t usual_share, const Fit& fit) : share_(share), usual_share_(usual_share), fit_(fit) {
  if (!known() || !(seconds() > 0) || !std::isfinite(seconds())) fit_.steps = 0;
}

double RankSpeed::observe(double seconds) {
  seconds = std::max(seconds, kShortest);
  std::copy_backward(recent_.begin(), recent_.end() - 1, recent_.end());
  recent_[0] = seconds;
  if (++fit_.steps <= kSettleSteps) {
    if (known()) settle();
    return 1;
  }
  const double band = std::clamp(3 * std::sqrt(fit_.variance), kJump, kMaxBand);
  const double deviation = seconds / this->seconds() - 1;
  if (std::abs(deviation) <= band) {
    far_ = 0;
  } else {
    far_ = deviation > 0 ? std::max(far_, 0) + 1 : std::min(far_, 0) - 1;
  }
  if (std::abs(far_) >= kJumpSteps) {
    const double factor = median(recent_) / this->seconds();
    scale(factor);
    if (factor < 1 && !has_usual_share()) remember();
    fit_.steps = kSettleSteps;
    far_ = 0;
    anchor_ = {};
    return factor;
  }
  const double inside = std::clamp(deviation, -band, band);   // Huber: a step that was disturbed moves it no further
  const double gain = std::max(1 / static_cast<double>(fit_.steps), kMinGain);
  scale(1 + gain * inside);
  fit_.variance += gain * (inside * inside - fit_.variance);
  if (fit_.steps == kSecondLook) learn(this->seconds());
  if (has_usual_share() && far_ == 0) fit_.usual_sample_seconds = fit_.cost.sample_seconds;
  return 1;
}

void RankSpeed::move(std::int64_t share) {
  if (share == share_) return;
  if (known()) anchor_ = {share_, seconds(), uncertainty()};
  fit_.steps = 0;
  far_ = 0;
  share_ = share;
}

/// A rank that becomes faster while its share is small may have lost a delay of fixed length, which says nothing about samples: it is not
/// believed to be faster at them than it was when it had more.
void RankSpeed::remember() {
  if (!(fit_.usual_sample_seconds > fit_.cost.sample_seconds)) return;
  const double fixed = seconds() - fit_.usual_sample_seconds * static_cast<double>(share_);
  if (fixed < 0) {   // so it is faster
    fit_.usual_sample_seconds = fit_.cost.sample_seconds;
  } else {
    fit_.cost = {fixed, fit_.usual_sample_seconds};
  }
}

void RankSpeed::scale(double factor) {
  fit_.cost.fixed_seconds *= factor;
  fit_.cost.sample_seconds *= factor;
}

/// The first look at a share: of three steps one may have been disturbed.
void RankSpeed::settle() {
  const double seen = median(recent_);
  const double expected = seconds();
  if (expected > 0) {
    scale(seen / expected);
  } else {
    fit_.cost = {0, seen / static_cast<double>(std::max<std::int64_t>(share_, 1))};   // nothing is known of a fixed part
  }
  learn(seen);
}

/// The secant through what was measured at two shares; the less sure it is, the less it counts. The cost at this share stays `seconds`.
void RankSpeed::learn(double seconds) {
  if (anchor_.share == 0 || share_ == 0) return;
  const double share = static_cast<double>(share_), move = share - static_cast<double>(anchor_.share);
  const double relative_move = std::abs(move) / std::max(share, static_cast<double>(anchor_.share));
  if (relative_move < kLeastMove) return;
  const double least = (1 - kMaxFixedPart) * seconds / (kMaxFixedPart * static_cast<double>(usual_share_) + (1 - kMaxFixedPart) * share);
  const double secant = std::clamp((seconds - anchor_.seconds) / move, least, seconds / share);
  const double error = std::sqrt(anchor_.uncertainty * anchor_.uncertainty + uncertainty() * uncertainty()) / relative_move;
  const double weight = kFixedPartSpread * kFixedPartSpread / (kFixedPartSpread * kFixedPartSpread + error * error);
  double& sample_seconds = fit_.cost.sample_seconds;
  sample_seconds = std::min(sample_seconds + weight * (secant - sample_seconds), seconds / share);
  fit_.cost.fixed_seconds = std::max(0.0, seconds - sample_seconds * share);
}

double RankSpeed::uncertainty() const {
  const double effective = std::clamp(static_cast<double>(fit_.steps), 1.0, 2 / kMinGain - 1);
  return std::sqrt(fit_.variance / effective);
}

}  // namespace tugline
