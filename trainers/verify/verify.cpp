// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/verify/verify.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <torch/torch.h>

#include "tugline/core/error.hpp"
#include "tugline/core/models/batch_norm.hpp"
#include "tugline/core/models/module_tensors.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/learner.hpp"
#include "tugline/trainers/prepare.hpp"
#include "tugline/trainers/verify/dropout.hpp"
#include "tugline/trainers/verify/forward_trace.hpp"
#include "tugline/trainers/verify/mean_gradient.hpp"

namespace tugline {
namespace {

constexpr double kTolerance32 = 1e-5, kTolerance64 = 1e-12;

/// Products in 16 bits round at 2^-8 or 2^-11, those in TF32 at 2^-11, and other shares mean other sums before they do.
double tolerance_in(const TrainConfig& train) {
  if (train.precision == "float64") return kTolerance64;
  if (train.precision == "bf16") return 0.02;
  return train.precision == "fp16" || train.tf32 ? 0.0025 : kTolerance32;
}

/// Which steps to compare.
struct Case {
  std::string what;
  StepPlan plan;
  std::int64_t step = 0;
  std::int64_t samples() const { return plan.global_piece(step).global_size(); }
};

std::vector<Case> choose_cases(const RunConfig& config, std::int64_t num_samples, int ranks, bool needs_sample_per_rank) {
  const StepPlan plan{num_samples, config.data.batch, config.data.drop_last, 0};
  const std::int64_t last = plan.steps_per_epoch() - 1;
  std::vector<Case> cases{{"first batch", plan, 0}};
  if (last > 0 && plan.global_piece(last).global_size() != plan.global_batch) cases.push_back({"last batch of the epoch", plan, last});
  const auto uneven = [&](const Case& c) { return c.samples() % ranks != 0; };
  const std::int64_t one_less = std::min(config.data.batch, num_samples) - 1;
  if (std::none_of(cases.begin(), cases.end(), uneven) && one_less >= 1 && one_less % ranks != 0) {
    cases.push_back({"one sample less: uneven shares", {num_samples, one_less, false, 0}, 0});
  }
  if (ranks > 1 && !needs_sample_per_rank) cases.push_back({"one sample: the other ranks have none", {num_samples, 1, false, 0}, 0});
  return cases;
}

/// The same model twice: spread over all ranks, and whole on each rank.
struct Pair {
  World& world;
  World solo;
  Learner team, alone;
  Loader loader;

  Pair(World& world_in, const RunConfig& config, const VerifySubject& subject, bool dropout)
      : world(world_in),
        solo(solo_communicator()),
        team(config, subject.models, subject.train->spec(), world, subject.task ? subject.task() : nullptr),
        alone(config, subject.models, subject.train->spec(), solo, subject.task ? subject.task() : nullptr),
        loader(subject.train, std::make_shared<SampleOrder>(subject.train->size(), config.seed, config.data.shuffle),
               &config.data.augment, config.seed, LoaderOptions{.threads = 0}) {
    if (!dropout) {
      turn_off_dropout(team.model());
      turn_off_dropout(alone.model());
    }
    copy_values(team.parameters(), alone.parameters());
    copy_values(team.buffers(), alone.buffers());
  }

  at::Tensor gradient_of_one(const Case& which) { return mean_gradient(alone, solo, loader, which.plan, which.step); }

  GradientDifference compare(const Case& which) {
    const at::Tensor ours = mean_gradient(team, world, loader, which.plan, which.step);
    auto result = compare_gradients(ours, gradient_of_one(which), team.parameters());
    take_worst_of_ranks(result, world.control());
    return result;
  }
};

VerifiedBatch describe(const Case& which, const GradientDifference& difference) {
  VerifiedBatch batch{which.what, which.samples(), difference.largest_gradient, {}};
  for (std::size_t i = 0; i < difference.parameters.size(); ++i) {
    batch.rows.push_back({difference.parameters[i], difference.differences[i]});
  }
  std::stable_sort(batch.rows.begin(), batch.rows.end(), [](const auto& a, const auto& b) { return a.difference > b.difference; });
  return batch;
}

/// The first layer in forward order with a difference above the tolerance.
std::string first_layer(Pair& pair, const Case& which, const GradientDifference& difference, double tolerance) {
  std::vector<std::string> order;
  {
    const torch::NoGradGuard no_grad;
    const ForwardTrace trace(pair.alone.parameters());
    const Piece piece = which.plan.global_piece(which.step);
    pair.alone.forward(pair.loader.take(piece.epoch, piece.global_begin, piece.global_end).input);
    order = trace.order();
  }
  for (const auto& named : named_parameters_of(pair.alone.model())) order.push_back(named.name);
  for (const auto& name : order) {
    const auto found = std::find(difference.parameters.begin(), difference.parameters.end(), name);
    if (found == difference.parameters.end()) continue;
    if (difference.differences[static_cast<std::size_t>(found - difference.parameters.begin())] > tolerance) return layer_of(name);
  }
  return {};
}

struct Cause {
  std::string name;
  std::string explanation;
};

/// Does the same rank get the same gradient twice, and do all ranks get the same one for the same samples?
std::optional<Cause> compare_runs_of_one(Pair& pair, const Case& which, double tolerance) {
  Communicator& control = pair.world.control();
  const at::Tensor first = pair.gradient_of_one(which);
  auto again = compare_gradients(pair.gradient_of_one(which), first, pair.alone.parameters());
  take_worst_of_ranks(again, control);
  if (again.worst() > tolerance) {
    return Cause{"nondeterministic", fmt::format(
        "One rank that computes the same gradient twice gets two results ({:.1e} apart): the model draws random numbers of its "
        "own, reads a clock or keeps state. Draw through LibTorch's default generator, which is seeded for every step.", again.worst())};
  }
  at::Tensor of_rank_0 = first.clone();
  control.broadcast(of_rank_0.data_ptr(), static_cast<std::int64_t>(of_rank_0.nbytes()), 0);
  const double apart = compare_gradients(first, of_rank_0, pair.alone.parameters()).worst();
  const std::int64_t mine = apart > tolerance ? pair.world.rank() : std::numeric_limits<std::int64_t>::max();
  const std::int64_t lowest = control.all_reduce(mine, ReduceOp::min);
  if (lowest == std::numeric_limits<std::int64_t>::max()) return std::nullopt;
  return Cause{"reads_rank", fmt::format(
      "Rank {} and rank 0 compute different gradients for the same samples and parameters without talking to each other "
      "({:.1e} apart at most): the model or its data reads the rank, the host or the environment.", lowest,
      control.all_reduce(apart, ReduceOp::max))};
}

/// Computes the batch again with one thing changed and sees whether the difference goes.
class Experiments {
 public:
  Experiments(World& world, const VerifySubject& subject, const Case& which, double tolerance)
      : world_(world), subject_(subject), which_(which), tolerance_(tolerance) {}

  std::optional<Cause> without_dropout(bool dropout_modules) const {
    RunConfig config = subject_.config;
    if (config.model.dropout == 0 && !dropout_modules) return std::nullopt;
    config.model.dropout = 0;
    if (worst(config, false) > tolerance_) return std::nullopt;
    return Cause{"dropout", "The difference goes when dropout is off. Dropout draws its masks for each rank's samples, so other "
                            "shares mean other masks: this is expected. Verify with model.dropout=0."};
  }

  std::optional<Cause> with_sync_batch_norm(Pair& pair) const {
    RunConfig config = subject_.config;
    if (config.model.batch_norm == "sync" || !has_batch_norm(pair.team.model()) || world_.size() == 1) return std::nullopt;
    config.model.batch_norm = "sync";
    const bool fits = which_.samples() >= world_.size() && config.train.micro_batch == 0;
    if (!fits || worst(config, true) > tolerance_) {
      return Cause{"batch_norm_local", "The model has batch norm, whose statistics come from each rank's own samples. That is the likely "
                                       "cause; use model.batch_norm: sync, or group norm."};
    }
    return Cause{"batch_norm_local", "The difference goes with model.batch_norm: sync. Batch norm in local mode takes its statistics from "
                                     "each rank's own samples: set model.batch_norm: sync, or know that the result depends on the ranks."};
  }

  std::optional<Cause> in_float64(double difference) const {
    RunConfig config = subject_.config;
    if (config.train.precision == "float64" || difference > 0.05) return std::nullopt;
    config.train.precision = "float64";
    const double left = worst(config, true);
    if (left > kTolerance64) return std::nullopt;
    return Cause{"rounding", fmt::format(
        "In float64 the ranks agree ({:.1e}), so the {:.1e} here are rounding in {}, which this model makes larger than most do.",
        left, difference, subject_.config.train.precision)};
  }

 private:
  double worst(const RunConfig& config, bool dropout) const {
    Pair pair(world_, config, subject_, dropout);
    return pair.compare(which_).worst();
  }

  World& world_;
  const VerifySubject& subject_;
  const Case& which_;
  double tolerance_;
};

Cause find_cause(Pair& pair, const VerifySubject& subject, const Case& which, const GradientDifference& found, double tolerance) {
  if (!std::isfinite(found.largest_gradient)) {
    return {"non_finite", "The gradient is NaN or infinite even on one rank; `tugline overfit` on this config finds the layer."};
  }
  if (auto cause = compare_runs_of_one(pair, which, tolerance)) return *cause;
  const Experiments experiments(pair.world, subject, which, tolerance);
  if (auto cause = experiments.without_dropout(has_dropout(pair.team.model()))) return *cause;
  if (auto cause = experiments.with_sync_batch_norm(pair)) return *cause;
  if (auto cause = experiments.in_float64(found.worst())) return *cause;
  return {"ranks_disagree", "Each rank alone computes the same gradient, but their sum is another one: a loss that is not a sum over samples "
                            "(a mean, a contrast between samples of the batch), a layer that mixes samples, or a faulty reduction."};
}

}  // namespace

VerifyReport verify(World& world, const VerifySubject& subject, std::optional<double> tolerance) {
  const RunConfig& config = subject.config;
  VerifyReport report;
  report.name = config.name;
  report.ranks = world.size();
  report.backend = world.communicator().backend();
  report.precision = config.train.precision;
  report.tolerance = tolerance.value_or(tolerance_in(config.train));

  Pair pair(world, config, subject, true);
  const bool sync_norm = pair.team.sync_batch_norm();
  const auto cases = choose_cases(config, subject.train->size(), world.size(), sync_norm);
  for (const Case& which : cases) {
    if (sync_norm) require_sync_batch_norm_fits(world, config, which.samples());
  }
  for (const Case& which : cases) {
    const GradientDifference difference = pair.compare(which);
    report.batches.push_back(describe(which, difference));
    if (!report.cause.empty() || difference.worst() <= report.tolerance) continue;
    report.first_layer = first_layer(pair, which, difference, report.tolerance);
    const Cause cause = find_cause(pair, subject, which, difference, report.tolerance);
    report.cause = cause.name;
    report.explanation = cause.explanation;
  }
  // The ranks do compute one gradient then; whoever asks for a tolerance gets it to the letter.
  report.passed = report.cause.empty() || (report.cause == "rounding" && !tolerance);
  return report;
}

}  // namespace tugline
