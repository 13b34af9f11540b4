// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/trainer.hpp"

#include <algorithm>
#include <cmath>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/config/load.hpp"
#include "tugline/core/data/loader.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"
#include "tugline/core/models/batch_norm.hpp"
#include "tugline/core/state/train_state.hpp"
#include "tugline/parallel/replicas.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/learner.hpp"
#include "tugline/trainers/stop_signal.hpp"

namespace tugline {
namespace {

/// So many steps in a row without a finite gradient end the run: parameters no longer change.
constexpr int kMaxNonfiniteSteps = 10;

StepPlan make_plan(const RunConfig& config, std::int64_t num_samples) {
  StepPlan plan{num_samples, config.data.batch, config.data.drop_last, 0};
  const std::int64_t by_epochs = config.train.epochs * plan.steps_per_epoch();
  plan.total_steps = config.train.steps > 0 ? config.train.steps : by_epochs;
  if (config.train.steps > 0 && config.train.epochs > 0) plan.total_steps = std::min(plan.total_steps, by_epochs);
  return plan;
}

/// `every` in epochs or steps -> steps; 0 stays "never".
std::int64_t interval_steps(double every, bool epochs, std::int64_t steps_per_epoch) {
  if (every <= 0) return 0;
  return std::max<std::int64_t>(1, std::llround(every * static_cast<double>(epochs ? steps_per_epoch : 1)));
}

bool due(std::int64_t interval, std::int64_t step) { return interval > 0 && step % interval == 0; }

std::optional<double> accuracy_of(const Evaluation& evaluation) {
  return evaluation.has_accuracy ? std::optional(evaluation.accuracy) : std::nullopt;
}

}  // namespace

struct Trainer::Impl {
  Parts parts;
  StepPlan plan;
  std::shared_ptr<const SampleOrder> order;
  Loader loader;
  TrainState state;
  std::unique_ptr<SyncStrategy> strategy;
  std::int64_t eval_interval, save_steps, save_epoch_steps;
  double started = 0, last_save = 0;
  std::int64_t samples_done = 0;          // of this attempt
  double training_seconds = 0;
  int nonfinite_in_a_row = 0;
  bool saved_here = false;                // the current step is on disk
  Evaluation last_validation;
  std::int64_t validated_at = -1;

  explicit Impl(Parts parts_in);
  World& world() { return parts.world; }
  const RunConfig& config() const { return parts.config; }
  Progress& progress() { return state.progress; }

  void require_samples_everywhere();
  StepFacts one_step(const Piece& piece, bool stop_raised);
  void account(const Piece& piece, const StepFacts& facts, double seconds);
  void check_finite(const StepFacts& facts);
  Evaluation evaluate_split(const std::string& name, const std::shared_ptr<const Dataset>& split);
  bool validate();
  void save();
  Evaluation train_means() const;
  TrainResult finish(TrainResult::Ending ending);
};

Trainer::Impl::Impl(Parts parts_in)
    : parts(std::move(parts_in)),
      plan(make_plan(parts.config, parts.data.train->size())),
      order(std::make_shared<SampleOrder>(parts.data.train->size(), parts.config.seed, parts.config.data.shuffle)),
      loader(parts.data.train, order, &parts.config.data.augment, parts.config.seed,
             LoaderOptions{.threads = parts.config.data.threads, .prefetch_samples = parts.config.data.prefetch}),
      state{parts.learner.parameters(), parts.learner.buffers(), parts.learner.optimizer().slots()},
      eval_interval(interval_steps(parts.config.train.eval_every, parts.config.train.eval_unit == "epoch", plan.steps_per_epoch())),
      save_steps(parts.config.checkpoint.every_steps),
      save_epoch_steps(interval_steps(parts.config.checkpoint.every_epochs, true, plan.steps_per_epoch())) {
  state.normalisation = parts.data.normalisation;
  state.progress.seed = parts.config.seed;
  state.progress.world_size = parts.world.size();
  if (config().model.batch_norm == "sync" && has_batch_norm(parts.learner.model())) require_samples_everywhere();
}

/// Sync batch norm talks in every forward pass: all ranks must make the same number of them, each with a sample.
void Trainer::Impl::require_samples_everywhere() {
  const std::int64_t smallest = plan.global_piece(plan.steps_per_epoch() - 1).global_size();
  if (smallest < world().size()) {
    throw AgreedError(ExitCode::config, fmt::format(
        "model.batch_norm: sync needs at least one sample per rank in every step, but the smallest global batch has {} and there "
        "are {} ranks; use fewer ranks, another data.batch, or data.drop_last: true", smallest, world().size()));
  }
  if (config().train.micro_batch > 0 && world().size() > 1) {
    throw AgreedError(ExitCode::config, "model.batch_norm: sync cannot be cut into micro-batches on several ranks; set "
                                        "train.micro_batch: 0 or model.batch_norm: local");
  }
}

Trainer::Trainer(Parts parts) : impl_(std::make_unique<Impl>(std::move(parts))) {}
Trainer::~Trainer() = default;

bool Trainer::resume() {
  Impl& self = *impl_;
  // Rank 0 chooses, so that all load the same file.
  std::string chosen;
  std::vector<std::string> skipped;
  agree(self.world().control(), [&] {
    if (self.world().rank() == 0) chosen = self.parts.checkpoints.newest_valid(&skipped).string();
  });
  for (const auto& sentence : skipped) log::warn("{}", sentence);
  chosen = self.world().control().broadcast(chosen, 0);
  if (chosen.empty()) return false;
  agree(self.world().control(), [&] { restore(read_checkpoint(chosen), self.state); });
  self.progress().world_size = self.world().size();
  self.saved_here = true;
  self.parts.log.event("resume", {{"file", chosen}, {"step", self.progress().step}});
  return true;
}

std::int64_t Trainer::steps_done() const { return impl_->state.progress.step; }

StepFacts Trainer::Impl::one_step(const Piece& piece, bool stop_raised) {
  if (const auto next = strategy->upcoming(piece)) loader.expect(next->epoch, next->begin, next->end);
  strategy->begin_step(parts.learner.backwards(piece), parts.learner.nominal_weight(piece));
  StepReport report = parts.learner.compute_gradients(loader, piece);
  const double minutes = (parts.clock.seconds() - started) / 60;
  if (world().rank() == 0) {
    if (config().train.max_minutes > 0 && minutes >= config().train.max_minutes) report.stop = StopReason::limit;
    const double since_save = (parts.clock.seconds() - last_save) / 60;
    report.save = config().checkpoint.every_minutes > 0 && since_save >= config().checkpoint.every_minutes;
  }
  if (stop_raised) report.stop = StopReason::signal;
  return strategy->finish_step(report);
}

void Trainer::Impl::account(const Piece& piece, const StepFacts& facts, double seconds) {
  Progress& done = progress();
  if (piece.global_begin == 0) done.epoch_loss_sum = done.epoch_weight = done.epoch_correct = done.epoch_counted = 0;
  done.step = piece.step + 1;
  done.epoch = piece.epoch;
  done.position = piece.global_end;
  if (facts.finite) {
    done.epoch_loss_sum += facts.loss * facts.weight;
    done.epoch_weight += facts.weight;
    done.epoch_correct += facts.correct;
    done.epoch_counted += facts.counted;
  }
  saved_here = false;
  samples_done += piece.global_size();
  training_seconds += seconds;
  done.seconds += seconds;

  StepRecord record;
  record.epoch = piece.epoch + 1;
  record.step = done.step;
  record.total_steps = plan.total_steps;
  record.loss = facts.loss;
  if (facts.counted > 0) record.accuracy = facts.correct / facts.counted;
  record.lr = facts.lr;
  if (config().optim.clip_norm > 0) record.gradient_norm = facts.gradient_norm;
  record.samples = piece.global_size();
  record.samples_per_second = static_cast<double>(piece.global_size()) / std::max(seconds, 1e-9);
  record.seconds = {facts.data_seconds, facts.compute_seconds, facts.exposed_seconds, facts.wait_seconds, facts.optimizer_seconds};
  record.bytes_sent = facts.bytes_sent;
  record.shares = facts.shares;
  parts.log.step(record);
}

void Trainer::Impl::check_finite(const StepFacts& facts) {
  if (facts.finite) {
    nonfinite_in_a_row = 0;
    return;
  }
  const std::string where = facts.nonfinite_rank >= 0 ? fmt::format("the loss on rank {}", facts.nonfinite_rank) : "the gradient";
  ++nonfinite_in_a_row;
  log::warn("step {}: {} is not finite; the step was skipped", progress().step, where);
  if (nonfinite_in_a_row < kMaxNonfiniteSteps) return;
  throw AgreedError(ExitCode::internal, fmt::format(
      "{} was not finite for {} steps in a row, the last is step {}; lower optim.lr or set optim.clip_norm, and try `tugline "
      "overfit` on this config", where, kMaxNonfiniteSteps, progress().step));
}

Evaluation Trainer::Impl::evaluate_split(const std::string& name, const std::shared_ptr<const Dataset>& split) {
  if (split->size() == 0) return {};
  average_values(world().communicator(), parts.learner.buffers());
  const Evaluation result = evaluate(parts.learner, split, config().train.eval_batch, world());
  EvalRecord record{name, progress().step / plan.steps_per_epoch(), progress().step, result.loss, accuracy_of(result),
                    result.samples, result.seconds};
  parts.log.evaluation(record);
  return result;
}

/// Evaluates the validation split; keeps the best checkpoint. True: early stopping says enough.
bool Trainer::Impl::validate() {
  last_validation = evaluate_split("validation", parts.data.validation);
  validated_at = progress().step;
  if (last_validation.samples == 0) return false;
  const std::string& early = config().train.early_stop.metric;
  std::string metric = early.empty() ? config().checkpoint.best_metric : early;
  if (metric == "auto") metric = last_validation.has_accuracy ? "validation.accuracy" : "validation.loss";
  const bool larger_is_better = metric == "validation.accuracy";
  const double value = larger_is_better ? last_validation.accuracy : last_validation.loss;
  Progress& done = progress();
  const double gain = larger_is_better ? value - done.best_value : done.best_value - value;
  const bool better = !done.has_best || gain > (early.empty() ? 0 : config().train.early_stop.min_delta);
  if (better) {
    done.has_best = true;
    done.best_value = value;
    done.best_metric = metric;
    done.evaluations_without_improvement = 0;
    if (config().checkpoint.keep_best) {
      save();
      if (world().rank() == 0) parts.checkpoints.mark_best(done.step, metric, value);
    }
  } else {
    ++done.evaluations_without_improvement;
  }
  return !early.empty() && done.evaluations_without_improvement >= config().train.early_stop.patience;
}

void Trainer::Impl::save() {
  if (saved_here) return;
  average_values(world().communicator(), parts.learner.buffers());
  agree(world().control(), [&] {
    if (world().rank() != 0) return;
    const double start = parts.clock.seconds();
    const auto file = parts.checkpoints.path_of(progress().step);
    write_checkpoint(file, Snapshot(state, to_yaml(config())).content());
    parts.checkpoints.prune(config().checkpoint.keep_last, config().checkpoint.keep_best);
    parts.log.event("checkpoint", {{"file", file.string()}, {"step", progress().step}, {"seconds", parts.clock.seconds() - start}});
  });
  last_save = parts.clock.seconds();
  saved_here = true;
}

Evaluation Trainer::Impl::train_means() const {
  const Progress& done = state.progress;
  Evaluation means;
  means.samples = done.position;
  means.loss = done.epoch_weight > 0 ? done.epoch_loss_sum / done.epoch_weight : 0;
  means.has_accuracy = done.epoch_counted > 0;
  if (means.has_accuracy) means.accuracy = done.epoch_correct / done.epoch_counted;
  return means;
}

TrainResult Trainer::Impl::finish(TrainResult::Ending ending) {
  TrainResult result;
  result.ending = ending;
  if (ending != TrainResult::Ending::signal) {
    if (validated_at != progress().step) validate();
    result.validation = last_validation;
    result.test = evaluate_split("test", parts.data.test);
  }
  save();
  result.steps = progress().step;
  result.epochs = progress().step / plan.steps_per_epoch();
  result.samples_per_second = training_seconds > 0 ? static_cast<double>(samples_done) / training_seconds : 0;
  result.seconds = progress().seconds;
  result.train = train_means();
  return result;
}

TrainResult Trainer::run() {
  Impl& self = *impl_;
  const RunConfig& config = self.config();
  const StopSignal stop_signal;
  self.started = self.last_save = self.parts.clock.seconds();
  const Schedule schedule(config.optim, {self.plan.total_steps, self.plan.steps_per_epoch(), config.data.batch});
  self.strategy = std::make_unique<SyncStrategy>(
      self.world().communicator(), self.world().control(), self.parts.learner.parameters(), self.parts.learner.optimizer(),
      schedule, self.plan, SyncOptions{config.optim.clip_norm, config.optim.clip_value, self.progress().step}, self.parts.clock);

  double last = self.parts.clock.seconds();
  while (const auto piece = self.strategy->next_piece()) {
    const StepFacts facts = self.one_step(*piece, stop_signal.raised());
    const double now = self.parts.clock.seconds();
    self.account(*piece, facts, now - last);
    self.check_finite(facts);
    const std::int64_t step = self.progress().step;
    const bool enough = due(self.eval_interval, step) && self.validate();
    if (facts.save || due(self.save_steps, step) || due(self.save_epoch_steps, step)) self.save();
    last = self.parts.clock.seconds();
    if (facts.stop == StopReason::signal) return self.finish(TrainResult::Ending::signal);
    if (facts.stop == StopReason::limit) return self.finish(TrainResult::Ending::time_limit);
    if (enough) return self.finish(TrainResult::Ending::early_stop);
  }
  return self.finish(TrainResult::Ending::done);
}

}  // namespace tugline
