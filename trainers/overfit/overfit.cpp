// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/overfit/overfit.hpp"

#include <optional>

#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/error.hpp"
#include "tugline/trainers/overfit/attempt.hpp"
#include "tugline/trainers/overfit/checks.hpp"
#include "tugline/trainers/overfit/diagnose.hpp"
#include "tugline/trainers/overfit/samples.hpp"
#include "tugline/trainers/prepare.hpp"

namespace tugline {
namespace {

std::shared_ptr<const Dataset> take_samples(World& world, const RunConfig& config, std::shared_ptr<const Dataset> train) {
  std::vector<std::int64_t> chosen;
  agree(world.control(), [&] {
    chosen = choose_samples(*train, config.overfit.samples);
    if (chosen.empty()) throw DataError("the train split is empty: there is nothing to overfit");
  });
  return subset(std::move(train), std::move(chosen));
}

/// The checks that need no training. They come first: a model may well learn ten samples with one layer cut off.
std::optional<Finding> check_before_training(const GateSetup& setup, LoneRank& lone) {
  if (auto found = check_samples(setup)) return found;
  std::optional<Finding> mine;
  agree(setup.world.control(), [&] { mine = check_first_pass(lone); });
  if (auto found = agree_on(setup.world, mine)) return found;
  return check_two_steps(setup, lone);
}

class Gate {
 public:
  Gate(const GateSetup& setup, OverfitVerdict& verdict)
      : setup_(setup), target_(setup.config.overfit), verdict_(verdict),
        attempt_(setup, setup.config.optim, target_.steps + extra_steps(target_)) {}

  /// Trains until the target is held; the finding says what is wrong where it is not. Collective.
  std::optional<Finding> train(LoneRank& lone) {
    if (auto found = evaluate()) return found;
    while (attempt_.steps() < target_.steps) {
      const StepFacts facts = attempt_.step();
      verdict_.steps = attempt_.steps();
      history_.last_train_loss = facts.steps.front().loss;
      history_.diverged = !facts.finite;
      const bool last = attempt_.steps() == target_.steps || history_.diverged;
      if (!last && attempt_.steps() % target_.eval_every != 0) continue;
      if (auto found = evaluate()) return found;
      if (held_ >= target_.hold) return std::nullopt;
      if (history_.diverged) break;
    }
    return diagnose(setup_, attempt_, lone, history_);
  }

 private:
  std::optional<Finding> evaluate() {
    if (const auto rank = attempt_.first_different_rank(); rank != 0) {
      return Finding{"ranks_disagree", fmt::format("After step {} rank {} holds other parameters than rank 0: the ranks did not make the same "
                                                   "steps.", attempt_.steps(), rank)};
    }
    const Evaluation result = attempt_.evaluate();
    OverfitEvaluation seen{attempt_.steps(), result.loss, result.has_accuracy ? std::optional(result.accuracy) : std::nullopt};
    held_ = reaches_target(target_, setup_.samples->spec(), seen) ? held_ + 1 : 0;
    verdict_.loss = seen.loss;
    verdict_.accuracy = seen.accuracy;
    verdict_.evaluations.push_back(seen);
    history_.evaluations.push_back(seen);
    return std::nullopt;
  }

  const GateSetup& setup_;
  const OverfitConfig& target_;
  OverfitVerdict& verdict_;
  Attempt attempt_;
  History history_;
  std::int64_t held_ = 0;
};

}  // namespace

RunConfig overfit_config(RunConfig config, std::int64_t num_samples) {
  OptimConfig& optim = config.optim;
  optim.schedule = {};
  optim.lr = optim.lr > 0 ? Schedule(optim, {1, 1, config.data.batch}).lr(0) : optim.lr;
  optim.lr_scale = "none";
  optim.weight_decay = 0;
  for (auto& group : optim.groups) group.weight_decay = 0;
  config.data.batch = num_samples;
  config.data.shuffle = false;
  config.data.drop_last = false;
  config.data.augment = {};
  config.model.dropout = 0;
  config.parallel.shards = 0;
  config.task.label_smoothing = 0;
  return config;
}

OverfitVerdict overfit(World& world, const RunConfig& given, const ModelRegistry& models, std::shared_ptr<const Dataset> train,
                       const OverfitParts& parts) {
  const double start = Clock::steady().seconds();
  const auto samples = take_samples(world, given, std::move(train));
  const RunConfig config = overfit_config(given, samples->size());
  const GateSetup setup{world, config, models, samples, parts};
  std::optional<LoneRank> lone;
  agree(world.control(), [&] { lone.emplace(setup); });
  if (lone->learner().sync_batch_norm()) require_sync_batch_norm_fits(world, config, config.data.batch);

  OverfitVerdict verdict;
  verdict.name = config.name;
  verdict.samples = samples->size();
  verdict.ranks = world.size();
  verdict.steps_allowed = config.overfit.steps;
  verdict.target_loss = config.overfit.loss;
  if (is_classification(samples->spec())) verdict.target_accuracy = config.overfit.target;

  auto found = check_before_training(setup, *lone);
  if (!found) found = Gate(setup, verdict).train(*lone);
  verdict.passed = !found.has_value();
  verdict.reason = found ? found->reason : "learned";
  verdict.explanation = found ? found->explanation
                              : fmt::format("Held for {} evaluations in a row, {} steps apart.", config.overfit.hold, config.overfit.eval_every);
  verdict.seconds = Clock::steady().seconds() - start;
  return verdict;
}

}  // namespace tugline
