// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/overfit/diagnose.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include "tugline/core/models/batch_norm.hpp"
#include "tugline/trainers/overfit/checks.hpp"
#include "tugline/trainers/overfit/samples.hpp"
#include "tugline/trainers/verify/forward_trace.hpp"
#include "tugline/trainers/verify/mean_gradient.hpp"

namespace tugline {
namespace {

using MaybeFinding = std::optional<Finding>;

Finding change_of_lr(const GateSetup& setup, const LearningRateScan& scan) {
  const double own = setup.config.optim.lr;
  const bool larger = scan.best.lr > own;
  return {larger ? "lr_too_small" : "lr_too_large", fmt::format(
      "The learning rate {:g} is too {}: after the same few steps the loss is {:.3g} with it and {:.3g} with {:g}. Try optim.lr={:g}.",
      own, larger ? "small" : "large", scan.loss_here, scan.best.loss, scan.best.lr, scan.best.lr)};
}

/// Where the first NaN comes up in the state that training was left in.
Finding diverged(const GateSetup& setup, LoneRank& lone) {
  const LearningRateScan scan = scan_learning_rates(setup);
  if (scan.better() && scan.best.lr < setup.config.optim.lr) return change_of_lr(setup, scan);
  const ForwardTrace trace(lone.learner().parameters());
  lone.outputs(true);
  const auto seen = trace.first_non_finite();
  const std::string where = seen && !seen->parameter.empty()
                                ? fmt::format("first seen in layer {} (operator {})", layer_of(seen->parameter), seen->op)
                                : "in the gradient or the loss, with finite outputs";
  return {"non_finite", fmt::format("NaN or infinity during training, {}; no smaller learning rate avoids it.", where)};
}

/// Rows that are probabilities already: the task's cross entropy applies a softmax of its own.
MaybeFinding find_second_softmax(const GateSetup& setup, LoneRank& lone, const History& history) {
  if (setup.samples->spec().num_classes < 2) return std::nullopt;
  const at::Tensor outputs = lone.outputs(false).to(at::kDouble);
  const bool rows_sum_to_one = outputs.sum(-1).sub(1).abs().max().item<double>() < 1e-3;
  if (!rows_sum_to_one || outputs.min().item<double>() < -1e-6) return std::nullopt;
  const double floor = std::log1p((static_cast<double>(outputs.size(-1)) - 1) * std::exp(-1.0));
  return Finding{"loss_floor", fmt::format(
      "The model's outputs are probabilities (each row sums to 1), but cross entropy applies softmax itself: a softmax too many. So the "
      "loss cannot fall below {:.3f} (it is {:.3f}); return the logits.", floor, history.evaluations.back().loss)};
}

double spread_over_samples(const at::Tensor& outputs) {
  const at::Tensor rows = outputs.flatten(1).to(at::kDouble);
  return rows.sub(rows.narrow(0, 0, 1)).abs().max().item<double>() / std::max(rows.abs().max().item<double>(), 1e-12);
}

MaybeFinding find_ignored_input(const GateSetup& setup, Attempt& attempt, LoneRank& lone) {
  if (setup.samples->size() < 2) return std::nullopt;
  constexpr double kSame = 1e-6;
  lone.adopt_initial();
  const double untrained = spread_over_samples(lone.outputs(false));
  lone.adopt(attempt.learner());
  if (untrained > kSame || spread_over_samples(lone.outputs(false)) > kSame) return std::nullopt;
  return Finding{"output_ignores_input", "The output is the same for every input, before training and after it: the model multiplies its input "
                                         "by zero, overwrites it or never reads it. Look at the first lines of forward()."};
}

/// Layers whose gradient is zero for all samples, before training and after it.
MaybeFinding find_dead_layers(Attempt& attempt, LoneRank& lone) {
  lone.adopt_initial();
  const at::Tensor untrained = lone.gradient();
  lone.adopt(attempt.learner());
  const at::Tensor both = untrained.abs() + lone.gradient().abs();
  std::vector<std::string> dead;
  std::int64_t begin = 0;
  for (const auto& slot : attempt.learner().parameters().slots()) {
    if (!slot.parameter.requires_grad()) continue;
    const std::int64_t count = slot.range.size();
    if (both.narrow(0, begin, count).count_nonzero().item<std::int64_t>() == 0) dead.push_back(slot.name);
    begin += count;
  }
  if (dead.empty()) return std::nullopt;
  return Finding{"no_gradient", fmt::format("The gradient of {} is exactly zero for every sample, before training and after it: something between "
                                            "layer {} and the loss blocks it (units that are all off, a factor of zero).",
                                            fmt::join(dead, ", "), layer_of(dead.front()))};
}

MaybeFinding find_train_eval_gap(const GateSetup& setup, LoneRank& lone, const History& history) {
  const double evaluated = history.evaluations.back().loss;
  if (history.last_train_loss > setup.config.overfit.loss || evaluated < 3 * history.last_train_loss) return std::nullopt;
  const bool norm = has_batch_norm(lone.learner().model());
  return Finding{"train_eval_differ", fmt::format(
      "In training mode the loss is {:.3g}, in evaluation mode {:.3g}: the model computes something else there. {}", history.last_train_loss,
      evaluated, norm ? "It has batch norm, whose running statistics are not those of these samples: set model.batch_norm: sync, use fewer "
                        "ranks, or group norm."
                      : "Look at what forward() does when is_training() is false.")};
}

/// Trains on, to see whether more steps are all that was missing.
MaybeFinding try_more_steps(const GateSetup& setup, Attempt& attempt, History& history) {
  const OverfitConfig& target = setup.config.overfit;
  const std::int64_t end = attempt.steps() + extra_steps(target);
  std::int64_t held = 0;
  while (attempt.steps() < end) {
    if (!attempt.step().finite) return std::nullopt;
    if (attempt.steps() % target.eval_every != 0) continue;
    const Evaluation result = attempt.evaluate();
    history.evaluations.push_back({attempt.steps(), result.loss, result.has_accuracy ? std::optional(result.accuracy) : std::nullopt});
    held = reaches_target(target, setup.samples->spec(), history.evaluations.back()) ? held + 1 : 0;
    if (held < target.hold) continue;
    return Finding{"budget_too_small", fmt::format("The loss falls, only not within {} steps: {} steps pass. Set overfit.steps={}.",
                                                   target.steps, attempt.steps(), attempt.steps() * 5 / 4 + 1)};
  }
  return std::nullopt;
}

/// Compares the last evaluation with the one in the middle.
struct Trend {
  const OverfitEvaluation& middle;
  const OverfitEvaluation& last;
  explicit Trend(const History& history)
      : middle(history.evaluations[history.evaluations.size() / 2]), last(history.evaluations.back()) {}
  bool falls() const { return last.loss < 0.97 * middle.loss && last.step > middle.step; }
  /// At the pace of the second half; exponential decay.
  std::int64_t steps_to(double loss) const {
    const double rate = std::log(middle.loss / last.loss) / static_cast<double>(last.step - middle.step);
    return last.step + std::llround(std::ceil(std::log(std::max(last.loss / loss, 1.0)) / rate));
  }
};

Finding judge_slow_training(const GateSetup& setup, LoneRank& lone, const History& history) {
  const OverfitConfig& target = setup.config.overfit;
  const Trend trend(history);
  const bool accurate = trend.last.accuracy && is_classification(setup.samples->spec()) && *trend.last.accuracy >= target.target;
  if (accurate && !trend.falls()) {
    const at::Tensor outputs = lone.outputs(false);
    return {"loss_floor", fmt::format(
        "Every sample is classified right, but the loss stays at {:.3g}, above overfit.loss {:g}. The outputs lie between {:.3g} and {:.3g}: if they "
        "are bounded (softmax, sigmoid, tanh at the end), return unbounded logits.", trend.last.loss, target.loss,
        outputs.min().item<double>(), outputs.max().item<double>())};
  }
  const LearningRateScan scan = scan_learning_rates(setup);
  if (scan.better() && scan.best.lr != setup.config.optim.lr) return change_of_lr(setup, scan);
  if (trend.falls()) {
    return {"budget_too_small", fmt::format("The loss falls, from {:.3g} to {:.3g} in {} steps, but overfit.steps={} are too few. At the pace of the "
                                            "second half it would take about {} steps.", history.evaluations.front().loss, trend.last.loss,
                                            trend.last.step, target.steps, trend.steps_to(target.loss))};
  }
  return {"loss_stuck", fmt::format("The loss stays at {:.3g} and no learning rate from {:g} to {:g} does better. The model may be too small for "
                                    "{} samples, or its outputs cannot express the targets.", trend.last.loss,
                                    scan.lowest, scan.highest, setup.samples->size())};
}

}  // namespace

bool reaches_target(const OverfitConfig& target, const SampleSpec& spec, const OverfitEvaluation& evaluation) {
  // A negative loss is a wrong sign and no success.
  const bool low = std::isfinite(evaluation.loss) && evaluation.loss <= target.loss && evaluation.loss > -1e-6;
  return low && (!is_classification(spec) || evaluation.accuracy.value_or(0) >= target.target);
}

std::int64_t extra_steps(const OverfitConfig& config) {
  return std::max<std::int64_t>({config.steps, 200, config.hold * config.eval_every});
}

Finding diagnose(const GateSetup& setup, Attempt& attempt, LoneRank& lone, const History& found_history) {
  World& world = setup.world;
  History history = found_history;
  lone.adopt(attempt.learner());
  // Looks of one rank by itself, most specific first; every rank looks, so that the agreement below is one collective.
  const auto look = [&]() -> MaybeFinding {
    if (auto found = find_constant_input(*setup.samples)) return found;
    if (auto found = find_conflicting_labels(*setup.samples)) return found;
    if (history.diverged) return std::nullopt;
    if (auto found = find_second_softmax(setup, lone, history)) return found;
    if (auto found = find_ignored_input(setup, attempt, lone)) return found;
    if (auto found = find_train_eval_gap(setup, lone, history)) return found;
    return find_dead_layers(attempt, lone);
  };
  if (auto found = agree_on(world, look())) return *found;
  if (history.diverged) return *agree_on(world, diverged(setup, lone));
  if (setup.config.optim.lr == 0) {
    const LearningRateScan scan = scan_learning_rates(setup);
    return {"lr_too_small", fmt::format("The learning rate is 0, so no parameter changes. Try optim.lr={:g}.", scan.best.lr)};
  }
  if (auto found = try_more_steps(setup, attempt, history)) return *found;
  lone.adopt(attempt.learner());
  return *agree_on(world, judge_slow_training(setup, lone, history));
}

}  // namespace tugline
