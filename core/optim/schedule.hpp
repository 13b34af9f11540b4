// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace tugline {

struct OptimConfig;

/// The learning rate as a pure function of the step: nothing to save.
class Schedule {
 public:
  /// `total_steps` is where decays end; `steps_per_epoch` converts schedules given in epochs. `global_batch` and
  /// config.base_batch give the explicit scaling (config.lr_scale).
  struct Horizon {
    std::int64_t total_steps = 0;
    std::int64_t steps_per_epoch = 0;
    std::int64_t global_batch = 0;
  };
  /// Throws ConfigError when the settings do not fit together.
  Schedule(const OptimConfig& config, Horizon horizon);
  /// Learning rate of step `step`, counted from 0.
  double lr(std::int64_t step) const;

 private:
  enum class Shape { constant, step, cosine, linear, wsd } shape_ = Shape::constant;
  double peak_ = 0, final_factor_ = 0, gamma_ = 0;
  std::int64_t warmup_ = 0, total_ = 0, decay_ = 0, every_ = 1;  // steps
};

}  // namespace tugline
