// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/optim/schedule.hpp"

#include <cmath>
#include <numbers>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/error.hpp"

namespace tugline {
namespace {

using ::testing::HasSubstr;

OptimConfig optim(const ScheduleConfig& schedule) {
  OptimConfig config;
  config.lr = 0.5;
  config.schedule = schedule;
  return config;
}

/// Checks every step of a run of 100 steps in 5 epochs against a closed form.
template <typename Form>
void expect_lr(const OptimConfig& config, Form form) {
  const Schedule schedule(config, {.total_steps = 100, .steps_per_epoch = 20, .global_batch = 64});
  for (std::int64_t step = 0; step < 120; ++step) {
    const double expected = form(static_cast<double>(step));
    EXPECT_NEAR(schedule.lr(step), expected, 1e-15) << "step " << step;
  }
}

TEST(Schedule, Constant) {
  expect_lr(optim({}), [](double) { return 0.5; });
  expect_lr(optim({.unit = "step", .warmup = 10}), [](double s) { return 0.5 * std::min(1.0, (s + 1) / 10); });
}

TEST(Schedule, StepDecaysAtEpochBoundaries) {
  expect_lr(optim({.name = "step", .every = 2, .gamma = 0.1}),
            [](double s) { return 0.5 * std::pow(0.1, std::floor(s / 40)); });
  expect_lr(optim({.name = "step", .unit = "step", .every = 7, .gamma = 0.5}),
            [](double s) { return 0.5 * std::pow(0.5, std::floor(s / 7)); });
  expect_lr(optim({.name = "step", .warmup = 1, .every = 1, .gamma = 0.5}),
            [](double s) { return 0.5 * std::min(1.0, (s + 1) / 20) * std::pow(0.5, std::floor(s / 20)); });
}

TEST(Schedule, CosineFallsFromTheWarmupsEndToTheRunsEnd) {
  expect_lr(optim({.name = "cosine"}),
            [](double s) { return 0.25 * (1 + std::cos(std::numbers::pi * std::min(s / 100, 1.0))); });
  expect_lr(optim({.name = "cosine", .warmup = 1, .final_factor = 0.1}), [](double s) {
    if (s < 20) return 0.5 * (s + 1) / 20;
    return 0.05 + 0.45 * 0.5 * (1 + std::cos(std::numbers::pi * std::min((s - 20) / 80, 1.0)));
  });
}

TEST(Schedule, Linear) {
  expect_lr(optim({.name = "linear", .unit = "step", .warmup = 10, .final_factor = 0.2}), [](double s) {
    if (s < 10) return 0.5 * (s + 1) / 10;
    return 0.5 * (0.2 + 0.8 * (1 - std::min((s - 10) / 90, 1.0)));
  });
}

TEST(Schedule, WarmupStableDecay) {
  expect_lr(optim({.name = "wsd", .warmup = 0.5, .decay = 1, .final_factor = 0.1}), [](double s) {
    if (s < 10) return 0.5 * (s + 1) / 10;
    if (s < 80) return 0.5;
    return 0.5 * (0.1 + 0.9 * (1 - std::min((s - 80) / 20, 1.0)));
  });
  // A decay longer than what is left after the warm-up is cut, so that the learning rate never jumps.
  expect_lr(optim({.name = "wsd", .warmup = 1, .decay = 50}), [](double s) {
    if (s < 20) return 0.5 * (s + 1) / 20;
    return 0.5 * (1 - std::min((s - 20) / 80, 1.0));
  });
  expect_lr(optim({.name = "wsd"}), [](double s) { return s < 100 ? 0.5 : 0.0; });
}

TEST(Schedule, ARunShorterThanItsWarmupNeverReachesThePeak) {
  const Schedule schedule(optim({.name = "cosine", .unit = "step", .warmup = 100}),
                          {.total_steps = 50, .steps_per_epoch = 10});
  EXPECT_DOUBLE_EQ(schedule.lr(49), 0.25);
}

TEST(Schedule, ScalesAgainstTheReferenceBatch) {
  OptimConfig config = optim({});
  config.base_batch = 16;
  const auto lr = [&](const std::string& scale) {
    config.lr_scale = scale;
    return Schedule(config, {.total_steps = 10, .steps_per_epoch = 1, .global_batch = 64}).lr(3);
  };
  EXPECT_DOUBLE_EQ(lr("none"), 0.5);
  EXPECT_DOUBLE_EQ(lr("linear"), 2.0);
  EXPECT_DOUBLE_EQ(lr("sqrt"), 1.0);
}

std::string message_of(const OptimConfig& config) {
  try {
    Schedule(config, {.total_steps = 10, .steps_per_epoch = 1, .global_batch = 64});
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Schedule, SaysWhatDoesNotFit) {
  EXPECT_THAT(message_of(optim({.name = "cosin"})), HasSubstr("optim.schedule.name: unknown schedule 'cosin'"));
  EXPECT_THAT(message_of(optim({.unit = "hour"})), HasSubstr("optim.schedule.unit: unknown unit 'hour'"));
  EXPECT_THAT(message_of(optim({.name = "step"})), HasSubstr("optim.schedule.every: must be above 0"));
  OptimConfig config;
  config.lr_scale = "linear";
  EXPECT_THAT(message_of(config), HasSubstr("optim.base_batch: lr_scale linear needs"));
  config.lr_scale = "cubic";
  EXPECT_THAT(message_of(config), HasSubstr("optim.lr_scale: unknown scaling 'cubic'"));
}

}  // namespace
}  // namespace tugline
