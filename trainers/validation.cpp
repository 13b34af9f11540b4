// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/validation.hpp"

#include <cmath>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/state/train_state.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

constexpr const char* kLoss = "validation.loss";
constexpr const char* kAccuracy = "validation.accuracy";

double value_of(const std::string& metric, const Evaluation& validation) {
  return metric == kAccuracy ? validation.accuracy : validation.loss;
}

/// Whether `value` beats `best` by more than `delta`; what is not finite never does.
bool improves(const std::string& metric, double value, std::optional<double> best, double delta) {
  if (!std::isfinite(value) || !best) return std::isfinite(value);
  return (metric == kAccuracy ? value - *best : *best - value) > delta;
}

void require_metric(const std::string& key, const std::string& metric, bool has_accuracy) {
  if (metric == kLoss || (metric == kAccuracy && has_accuracy)) return;
  throw AgreedError(ExitCode::config, fmt::format("{}: '{}' is not known during training; use {}{}", key, metric, kLoss,
                                                  has_accuracy ? std::string(" or ") + kAccuracy : ""));
}

}  // namespace

void require_metrics(const RunConfig& config, bool has_accuracy, bool has_validation) {
  const std::string& early = config.train.early_stop.metric;
  if (!early.empty()) {
    require_metric("train.early_stop.metric", early, has_accuracy);
    if (!has_validation) {
      throw AgreedError(ExitCode::config, "train.early_stop.metric: early stopping needs a validation split, and it is empty");
    }
  }
  const std::string& best = config.checkpoint.best_metric;
  if (best != "auto") require_metric("checkpoint.best_metric", best, has_accuracy);
}

bool note_validation(const RunConfig& config, const Evaluation& validation, Progress& progress) {
  const EarlyStopConfig& early = config.train.early_stop;
  if (!early.metric.empty()) {
    const double value = value_of(early.metric, validation);
    const auto before = progress.has_watched ? std::optional(progress.watched_value) : std::nullopt;
    ++progress.evaluations_without_improvement;
    if (improves(early.metric, value, before, early.min_delta)) {
      progress.has_watched = true;
      progress.watched_value = value;
      progress.evaluations_without_improvement = 0;
    }
  }
  std::string metric = config.checkpoint.best_metric;
  if (metric == "auto") metric = validation.has_accuracy ? kAccuracy : kLoss;
  const double value = value_of(metric, validation);
  if (!improves(metric, value, progress.has_best ? std::optional(progress.best_value) : std::nullopt, 0)) return false;
  progress.has_best = true;
  progress.best_value = value;
  progress.best_metric = metric;
  return true;
}

Evaluation train_means(const Progress& progress) {
  Evaluation means;
  means.samples = progress.position;
  means.loss = progress.epoch_weight > 0 ? progress.epoch_loss_sum / progress.epoch_weight : 0;
  means.has_accuracy = progress.epoch_counted > 0;
  if (means.has_accuracy) means.accuracy = progress.epoch_correct / progress.epoch_counted;
  return means;
}

}  // namespace tugline
