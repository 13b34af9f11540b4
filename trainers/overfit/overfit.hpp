// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/optim/schedule.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"

namespace tugline {

class Dataset;
class Learner;
class ModelRegistry;
class Task;
class World;

/// One look at the samples that are being learnt, in evaluation mode.
struct OverfitEvaluation {
  std::int64_t step = 0;
  double loss = 0;
  std::optional<double> accuracy;
};

/// The gate's answer, the same on every rank.
struct OverfitVerdict {
  bool passed = false;
  std::string reason;           ///< "learned", or a short name of what is wrong; docs/overfit.md lists them
  std::string explanation;      ///< one or two sentences: layer, rank or number, and what to do
  double loss = 0;
  std::optional<double> accuracy;
  double target_loss = 0;
  std::optional<double> target_accuracy;   ///< where the task is gated by accuracy
  std::int64_t steps = 0;       ///< taken
  std::int64_t steps_allowed = 0;
  std::int64_t samples = 0;
  int ranks = 1;
  double seconds = 0;
  std::string name;             ///< the config's
  std::vector<OverfitEvaluation> evaluations;
};

std::string to_text(const OverfitVerdict&);       ///< one block for people
std::string to_json(const OverfitVerdict&);       ///< one object, one line
std::string to_junit_xml(const OverfitVerdict&);  ///< one test suite with one test case

/// What a program of yours may replace; empty members mean what `train` uses.
struct OverfitParts {
  std::function<std::unique_ptr<Task>()> task;
  struct StrategyNeeds {
    World& world;
    Learner& learner;
    Schedule schedule;
    StepPlan plan;
    SyncOptions options;
  };
  std::function<std::unique_ptr<Strategy>(const StrategyNeeds&)> strategy;
};

/// What is trained: the same model, optimizer and precision; all samples in every step and never shuffled; augmentation,
/// dropout, weight decay, label smoothing and the schedule off (the learning rate is the peak that `train` would use).
RunConfig overfit_config(RunConfig config, std::int64_t num_samples);

/// The first `count` distinct samples of `train` with as many classes as possible, ascending. Samples that are equal in input
/// and target count once; equal inputs with different targets stay.
std::vector<std::int64_t> choose_samples(const Dataset& train, std::int64_t count);

/// Collective. Can the model learn a few samples by heart? Before training it checks what can be checked exactly (labels that
/// change, parameters without gradient, the sign of the gradient, the ranks' common step); then it trains; if that fails it
/// looks for the reason. Throws ConfigError and DataError as training does.
OverfitVerdict overfit(World& world, const RunConfig& config, const ModelRegistry& models, std::shared_ptr<const Dataset> train,
                       const OverfitParts& parts = {});

}  // namespace tugline
