// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/optim/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include <c10/util/StringUtil.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/error.hpp"

namespace tugline {
namespace {

double scaled_lr(const OptimConfig& config, std::int64_t global_batch) {
  if (config.lr_scale == "none") return config.lr;
  if (config.lr_scale != "linear" && config.lr_scale != "sqrt") {
    throw ConfigError(c10::str("optim.lr_scale: unknown scaling '", config.lr_scale, "'; choose none, linear or sqrt"));
  }
  if (config.base_batch <= 0) {
    throw ConfigError(
        c10::str("optim.base_batch: lr_scale ", config.lr_scale, " needs the batch that optim.lr was tuned for"));
  }
  const double ratio = static_cast<double>(global_batch) / static_cast<double>(config.base_batch);
  return config.lr * (config.lr_scale == "linear" ? ratio : std::sqrt(ratio));
}

}  // namespace

Schedule::Schedule(const OptimConfig& config, Horizon horizon)
    : peak_(scaled_lr(config, horizon.global_batch)),
      final_factor_(config.schedule.final_factor),
      gamma_(config.schedule.gamma),
      total_(horizon.total_steps) {
  const ScheduleConfig& schedule = config.schedule;
  const bool in_epochs = schedule.unit == "epoch";
  if (!in_epochs && schedule.unit != "step") {
    throw ConfigError(c10::str("optim.schedule.unit: unknown unit '", schedule.unit, "'; choose epoch or step"));
  }
  const auto steps = [&](double length) {
    return static_cast<std::int64_t>(
        std::llround(length * (in_epochs ? static_cast<double>(horizon.steps_per_epoch) : 1.0)));
  };
  warmup_ = steps(schedule.warmup);
  decay_ = std::clamp<std::int64_t>(steps(schedule.decay), 0, std::max<std::int64_t>(total_ - warmup_, 0));
  every_ = std::max<std::int64_t>(steps(schedule.every), 1);

  if (schedule.name == "constant") {
    shape_ = Shape::constant;
  } else if (schedule.name == "step") {
    shape_ = Shape::step;
    if (schedule.every <= 0) throw ConfigError("optim.schedule.every: must be above 0 for schedule step");
  } else if (schedule.name == "cosine") {
    shape_ = Shape::cosine;
  } else if (schedule.name == "linear") {
    shape_ = Shape::linear;
  } else if (schedule.name == "wsd") {
    shape_ = Shape::wsd;
  } else {
    throw ConfigError(c10::str("optim.schedule.name: unknown schedule '", schedule.name,
                               "'; choose constant, step, cosine, linear or wsd"));
  }
}

double Schedule::lr(std::int64_t step) const {
  // Step w - 1 of a warm-up of w steps is the first at the peak, and step 0 already moves.
  const double warm = step < warmup_ ? static_cast<double>(step + 1) / static_cast<double>(warmup_) : 1.0;
  /// How far the decay that starts at `begin` has come at this step, 0 to 1.
  const auto progress = [&](std::int64_t begin) {
    if (total_ <= begin) return step < begin ? 0.0 : 1.0;
    return std::clamp(static_cast<double>(step - begin) / static_cast<double>(total_ - begin), 0.0, 1.0);
  };
  const auto fall = [&](double remaining) { return final_factor_ + (1 - final_factor_) * remaining; };
  switch (shape_) {
    case Shape::constant:
      return peak_ * warm;
    case Shape::step:
      return peak_ * warm * std::pow(gamma_, static_cast<double>(step / every_));
    case Shape::cosine:
      return peak_ * warm * fall(0.5 * (1 + std::cos(std::numbers::pi * progress(warmup_))));
    case Shape::linear:
      return peak_ * warm * fall(1 - progress(warmup_));
    case Shape::wsd:
      return peak_ * warm * fall(1 - progress(total_ - decay_));
  }
  return peak_;
}

}  // namespace tugline
