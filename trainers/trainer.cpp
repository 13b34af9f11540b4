// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/config/load.hpp"
#include "tugline/core/data/loader.hpp"
#include "tugline/core/trace_range.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"
#include "tugline/core/models/batch_norm.hpp"
#include "tugline/core/state/train_state.hpp"
#include "tugline/parallel/async/async_strategy.hpp"
#include "tugline/parallel/balance/cut.hpp"
#include "tugline/parallel/late_report.hpp"
#include "tugline/parallel/replicas.hpp"
#include "tugline/parallel/watchdog/watchdog.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/bad_steps.hpp"
#include "tugline/trainers/checkpoint_saver.hpp"
#include "tugline/trainers/fault_injector.hpp"
#include "tugline/trainers/learner.hpp"
#include "tugline/trainers/make_strategy.hpp"
#include "tugline/trainers/prepare.hpp"
#include "tugline/trainers/run_shares.hpp"
#include "tugline/trainers/same_state.hpp"
#include "tugline/trainers/step_log.hpp"
#include "tugline/trainers/stop_signal.hpp"
#include "tugline/trainers/validation.hpp"

namespace tugline {
namespace {

/// `every` in epochs or steps -> steps; 0 stays "never".
std::int64_t interval_steps(double every, bool epochs, std::int64_t steps_per_epoch) {
  if (every <= 0) return 0;
  return std::max<std::int64_t>(1, std::llround(every * static_cast<double>(epochs ? steps_per_epoch : 1)));
}

bool due(std::int64_t interval, std::int64_t step) { return interval > 0 && step % interval == 0; }

std::optional<double> accuracy_of(const Evaluation& evaluation) {
  return evaluation.has_accuracy ? std::optional(evaluation.accuracy) : std::nullopt;
}

/// What needs all ranks to hold the same parameters.
struct Wanted {
  bool compare = false, validate = false, save = false, pause = false;
  StopReason stop = StopReason::none;
  bool anything() const { return compare || validate || save || pause || stop != StopReason::none; }
};

}  // namespace

void require_trainable(World& world, const RunConfig& config, Learner& learner, const DataSplits& data, const RecordedShares& recorded) {
  if (config.parallel.strategy == "async") require_async_fits(config, world);
  require_metrics(config, learner.task().has_accuracy(), data.validation->size() > 0);
  const StepPlan plan = make_plan(config, data.train->size());
  choose_run_shares(config, plan.global_piece(0).global_size(), world, learner, recorded);
  if (!learner.sync_batch_norm()) return;
  require_sync_batch_norm_fits(world, config, plan.global_piece(plan.steps_per_epoch() - 1).global_size());
}

struct Trainer::Impl {
  Parts parts;
  StepPlan plan;
  std::shared_ptr<const SampleOrder> order;
  Loader loader;
  BadSteps bad_steps;
  TrainState state;
  std::optional<Checkpoint> resumed;      // what of it only a strategy can take
  std::unique_ptr<CheckpointSaver> saver; // once there is a strategy
  std::shared_ptr<ShareRule> shares;      // null: equal ones
  std::int64_t share_unit = 1;
  std::unique_ptr<Optimizer> outer;       // of local rounds
  std::unique_ptr<Strategy> strategy;
  std::int64_t eval_interval, save_steps, save_epoch_steps;
  std::int64_t pause_step;                // 0: none
  double started = 0, last_save = 0, accounted = 0;   // when: the run began, saved, had accounted for all steps
  std::int64_t samples_done = 0;          // of this attempt
  double training_seconds = 0;
  bool saved_here = false;                // the current step is on disk
  bool settled = true;                    // all ranks hold the same
  struct {
    double mine = 0, others = 0;
  } unsettled;                            // samples since they last did
  StepLog step_log;
  Evaluation last_validation;

  explicit Impl(Parts parts_in);
  World& world() { return parts.world; }
  const RunConfig& config() const { return parts.config; }
  Progress& progress() { return state.progress; }

  void warn(const std::string& text);
  StepFacts one_step(const Piece& piece);
  StepFacts attempt_step(const Piece& piece);
  [[noreturn]] void end_bad_step(const Piece& piece, const StepFacts& facts);
  void settle_buffers(const StepFacts& facts, const std::vector<at::Tensor>& before);
  void account(const GlobalStep& step, double seconds);
  void give_up_when_hopeless(const StepFacts& facts);
  void due_after(std::int64_t step, Wanted& wanted) const;
  std::vector<std::int64_t> present_cut() const;
  Evaluation evaluate_split(const std::string& name, const std::shared_ptr<const Dataset>& split);
  void validate();
  bool stopped_early() const;
  void open_saver();
  void at_checkpoint(bool mine, const std::function<void()>& body);
  void save(bool best = false);
  void settle_saves();
  std::unique_ptr<Watchdog> watch();
  TrainResult finish(TrainResult::Ending ending);
};

Trainer::Impl::Impl(Parts parts_in)
    : parts(std::move(parts_in)),
      plan(make_plan(parts.config, parts.data.train->size())),
      order(std::make_shared<SampleOrder>(parts.data.train->size(), parts.config.seed, parts.config.data.shuffle)),
      loader(parts.data.train, order, &parts.config.data.augment, parts.config.seed,
             LoaderOptions{.threads = parts.config.data.threads, .prefetch_samples = parts.config.data.prefetch,
                           .pinned = !parts.learner.device().is_cpu()}),
      bad_steps(parts.world, parts.config.train, parts.learner, loader, order, parts.log),
      state{parts.learner.parameters(), parts.learner.buffers(), parts.learner.optimizer().slots()},
      eval_interval(interval_steps(parts.config.train.eval_every, parts.config.train.eval_unit == "epoch", plan.steps_per_epoch())),
      save_steps(parts.config.checkpoint.every_steps),
      save_epoch_steps(interval_steps(parts.config.checkpoint.every_epochs, true, plan.steps_per_epoch())),
      pause_step(parts.until_epochs * plan.steps_per_epoch()),
      step_log(parts.log, plan.total_steps, parts.config.optim.clip_norm > 0 || bad_steps.spikes()) {
  state.normalisation = parts.data.normalisation;
  state.progress.seed = parts.config.seed;
  state.progress.world_size = parts.world.size();
  state.rank = parts.world.rank();
  require_trainable(parts.world, parts.config, parts.learner, parts.data, parts.recorded);
  outer = outer_optimizer_of(parts.config.parallel, parts.learner.parameters());
  if (outer) state.slots.insert(state.slots.end(), outer->slots().begin(), outer->slots().end());
}

Trainer::Trainer(Parts parts) : impl_(std::make_unique<Impl>(std::move(parts))) {}
Trainer::~Trainer() = default;

bool Trainer::resume() {
  Impl& self = *impl_;
  // Rank 0 chooses, so that all load the same file.
  std::string chosen;
  std::vector<std::string> skipped;
  agree(self.world().control(), [&] {
    if (self.world().rank() != 0) return;
    chosen = self.parts.checkpoints.newest_valid(&skipped).string();
    if (!chosen.empty() || skipped.empty()) return;
    throw CheckpointError(fmt::format("no checkpoint of this run is intact, nothing was overwritten; bring one back, or start over with "
                                      "--fresh: {}", fmt::join(skipped, "; ")));
  });
  for (const auto& sentence : skipped) self.warn(sentence);
  chosen = self.world().control().broadcast(chosen, 0);
  if (chosen.empty()) return false;
  self.parts.log.event("loading", {{"checkpoint", chosen}});   // what happens now may be its fault
  self.state.parameters_elsewhere = !self.parts.learner.writes_parameters();
  agree(self.world().control(), [&] {   // and the barrier after which all see the common copy
    self.resumed = read_checkpoint(chosen, [&](const std::string& path) { return is_for_rank(path, self.state.rank); });
    try {
      restore(*self.resumed, self.state);
    } catch (const CheckpointError& error) {
      throw CheckpointError(chosen + ": " + error.what());
    }
  });
  agree(self.world().control(), [&] {
    self.parts.learner.loss_scale().load(self.state.loss_scale);
    if (self.bad_steps.spikes()) self.bad_steps.spikes()->load(self.state.gradient_norms);
  });
  std::erase_if(self.resumed->arrays, [&](const auto& array) { return !is_residual(array.first); });   // live by now
  if (std::exchange(self.progress().world_size, self.world().size()) != self.world().size()) self.resumed->arrays.clear();
  self.saved_here = true;
  self.parts.log.event("resume", {{"checkpoint", chosen}, {"epoch", self.progress().epoch + 1}, {"step", self.progress().step}});
  return true;
}

std::int64_t Trainer::steps_done() const { return impl_->state.progress.step; }

void Trainer::Impl::warn(const std::string& text) {
  log::warn("{}", text);
  parts.log.event("warning", {{"text", text}});
}

StepFacts Trainer::Impl::one_step(const Piece& piece) {
  if (const auto next = strategy->upcoming(piece)) loader.expect(next->epoch, next->begin, next->end);
  StepFacts facts = attempt_step(piece);
  while (parts.learner.overflowed(facts)) {
    parts.log.event("loss_scale", {{"step", piece.step + 1}, {"scale", parts.learner.loss_scale().value()}});
    facts = attempt_step(piece);   // with the smaller scale
  }
  if (facts.finite) return facts;
  bad_steps.tried(piece, facts, config().train.nonfinite);
  if (config().train.nonfinite == "skip") return facts;
  if (config().train.nonfinite == "retry") {
    facts = attempt_step(piece);   // buffers are back, and dropout draws what it drew
    if (facts.finite) {
      warn(bad_steps.passed(piece));
      return facts;
    }
    bad_steps.tried(piece, facts, "stop");
  }
  end_bad_step(piece, facts);
}

StepFacts Trainer::Impl::attempt_step(const Piece& piece) {
  const TraceRange range("step", piece.step + 1);
  Heartbeat& heartbeat = parts.learner.heartbeat();
  heartbeat.begin_step(piece.step + 1);
  const double before = parts.clock.seconds();
  if (parts.faults != nullptr) parts.faults->before_step(piece.step + 1, state.parameters, heartbeat);
  const double injected = parts.clock.seconds() - before;
  std::vector<at::Tensor> buffers_before;
  for (const auto& flat : parts.learner.buffers().flats()) buffers_before.push_back(flat.values.clone());
  heartbeat.enter(Phase::waiting);   // for what it computes on
  strategy->begin_step(parts.learner.backwards(piece), parts.learner.nominal_weight(piece));
  StepReport report = parts.learner.compute_gradients(loader, piece);
  report.compute_seconds += injected;
  const double minutes = (parts.clock.seconds() - started) / 60;
  if (world().rank() == 0) {
    if (config().train.max_minutes > 0 && minutes >= config().train.max_minutes) report.stop = StopReason::limit;
    const double since_save = (parts.clock.seconds() - last_save) / 60;
    report.save = saver->failed() || (config().checkpoint.every_minutes > 0 && since_save >= config().checkpoint.every_minutes);
  }
  if (bad_steps.hopeless()) report.stop = StopReason::limit;   // all must come to give up
  if (parts.stop.raised()) report.stop = StopReason::signal;
  if (!report.late) heartbeat.enter(Phase::waiting);   // otherwise when its device has computed
  StepFacts facts = strategy->finish_step(report);
  settle_buffers(facts, buffers_before);
  // Until a round has ended, nobody knows how long its end takes: the watchdog is as patient as in a first step.
  if (facts.settled || heartbeat.longest_step() > 0) heartbeat.end_step();
  if (parts.faults != nullptr) parts.faults->after_step(piece.step + 1, state.parameters);
  return facts;
}

/// The checkpoint is of the step before: the same command computes this one again.
void Trainer::Impl::end_bad_step(const Piece& last, const StepFacts& facts) {
  const bool ahead = facts.verdict != nullptr;   // those before were read with it, and those after it moved nothing
  const Piece& piece = ahead ? facts.steps.back().piece : last;
  if (ahead) step_log.spend(facts);
  for (std::size_t i = 0; ahead && i + 1 < facts.steps.size(); ++i) account(facts.steps[i], (parts.clock.seconds() - accounted) / static_cast<double>(facts.steps.size()));
  settled = settled || ahead;
  if (facts.alone) {   // the others are elsewhere
    throw Error(fmt::format("{}; the same command goes on from the last checkpoint; {}", bad_steps.explain(piece, facts), bad_steps.advice()));
  }
  if (progress().step > 0 && settled) save();   // before buffers see another pass
  const std::string text = bad_steps.explain(piece, facts);
  settle_saves();
  const char* const where = settled ? "parameters are those of the step before, and the same command repeats the step"
                                    : "ranks were within a round, and the same command goes on from the last checkpoint";
  throw AgreedError(ExitCode::internal, fmt::format("{}; {}; {}", text, where, bad_steps.advice()));
}

/// Running statistics are part of a step: the same on every rank when it has settled, so that saving and evaluating change nothing, and
/// back where they were when it was skipped.
void Trainer::Impl::settle_buffers(const StepFacts& facts, const std::vector<at::Tensor>& before) {
  Arena& buffers = parts.learner.buffers();
  for (std::size_t i = 0; i < before.size(); ++i) {
    at::Tensor values = buffers.flats()[i].values;
    if (facts.verdict) values.copy_(at::where(facts.verdict->left_out, before[i], values));
    else if (!facts.finite) values.copy_(before[i]);
  }
  if (facts.verdict) return average_values(parts.learner.gradients(), buffers, {facts.verdict->own_samples, facts.verdict->samples});
  for (const GlobalStep& step : facts.steps) {
    for (std::size_t r = 0; r < step.ranks.size() && step.made; ++r) {
      (static_cast<int>(r) == world().rank() ? unsettled.mine : unsettled.others) += static_cast<double>(step.ranks[r].samples);
    }
  }
  if (!facts.settled) return;
  average_values(parts.learner.gradients(), buffers, {unsettled.mine, unsettled.mine + unsettled.others});
  unsettled = {};
}

void Trainer::Impl::account(const GlobalStep& step, double seconds) {
  const Piece& piece = step.piece;
  Progress& done = progress();
  if (piece.global_begin == 0) done.epoch_loss_sum = done.epoch_weight = done.epoch_correct = done.epoch_counted = 0;
  done.step = piece.step + 1;
  done.epoch = piece.epoch;
  done.position = piece.global_end;
  if (step.made) {
    done.epoch_loss_sum += step.loss * step.weight;
    done.epoch_weight += step.weight;
    done.epoch_correct += step.correct;
    done.epoch_counted += step.counted;
  }
  saved_here = false;
  samples_done += piece.global_size();
  training_seconds += seconds;
  done.seconds += seconds;
  step_log.record(step, seconds);
}

/// Where all ranks come to it.
void Trainer::Impl::give_up_when_hopeless(const StepFacts& facts) {
  if (!bad_steps.hopeless() || (facts.alone && !settled)) return;
  if (settled) save();
  settle_saves();
  throw AgreedError(ExitCode::internal, bad_steps.why_hopeless());
}

void Trainer::Impl::due_after(std::int64_t step, Wanted& wanted) const {
  wanted.compare = wanted.compare || due(parts.config.parallel.check_every, step);
  wanted.validate = wanted.validate || due(eval_interval, step);
  wanted.save = wanted.save || due(save_steps, step) || due(save_epoch_steps, step);
  wanted.pause = wanted.pause || (pause_step > 0 && step >= pause_step);
}

/// Shares of a full global batch from here on.
std::vector<std::int64_t> Trainer::Impl::present_cut() const {
  const Piece batch{.step = state.progress.step, .global_end = plan.global_piece(0).global_size()};
  if (shares) return shares->shares(batch);
  const int size = parts.world.size(), shards = static_cast<int>(parts.config.parallel.shards);
  std::vector<std::int64_t> equal;
  for (int rank = 0; rank < size; ++rank) equal.push_back((shards > 0 ? shards_of(batch, shards, rank, size) : equal_share(batch, rank, size)).size());
  return equal;
}

Evaluation Trainer::Impl::evaluate_split(const std::string& name, const std::shared_ptr<const Dataset>& split) {
  if (split->size() == 0) return {};
  const auto cut = present_cut();
  const std::vector<double> speeds(cut.begin(), cut.end());
  const TraceRange range("evaluation");
  const Evaluation result = evaluate(parts.learner, split, config().train.eval_batch, world(), speeds);
  EvalRecord record{name, progress().step / plan.steps_per_epoch(), progress().step, result.loss, accuracy_of(result),
                    result.samples, result.seconds};
  parts.log.evaluation(record);
  return result;
}

/// Evaluates the validation split, and keeps the best checkpoint.
void Trainer::Impl::validate() {
  last_validation = evaluate_split("validation", parts.data.validation);
  progress().validated_step = progress().step;
  if (last_validation.samples == 0) return;
  if (note_validation(config(), last_validation, progress()) && config().checkpoint.keep_best) save(true);
}

bool Trainer::Impl::stopped_early() const {
  const auto& early = parts.config.train.early_stop;
  return !early.metric.empty() && state.progress.evaluations_without_improvement >= early.patience;
}

/// Once there is a strategy: what it remembers is part of the state.
void Trainer::Impl::open_saver() {
  state.residuals = strategy->residuals();
  if (resumed && config().parallel.wire == "bfloat16") {
    const bool fit = world().control().all_reduce(residuals_fit(*resumed, state) ? 0.0 : 1.0) == 0;
    if (fit) restore_residuals(*resumed, state);
    else warn("the checkpoint has not what rounding left over on these ranks (parallel.wire: bfloat16), which begins as nothing: this is not bit for "
              "bit the run that goes on");
  }
  resumed.reset();
  saver = std::make_unique<CheckpointSaver>(world().rank(), choose_writers(world(), config().checkpoint, state, parts.checkpoints.folder()), parts.checkpoints,
                                            config().checkpoint, parts.log, parts.faults);
}

/// In the phase that says what the rank does, and not that it waits for others.
void Trainer::Impl::at_checkpoint(bool mine, const std::function<void()>& body) {
  Heartbeat& heartbeat = parts.learner.heartbeat();
  agree(world().control(), [&] {
    if (!mine) return;
    heartbeat.enter(Phase::checkpoint);
    body();
    heartbeat.enter(Phase::waiting);
  });
}

/// The current step's checkpoint, written once; `best`: it is the best so far.
void Trainer::Impl::save(bool best) {
  if (saved_here && !best) return;
  settle_saves();
  if (saved_here) {   // as far as one knows
    saved_here = world().control().all_reduce(world().rank() == 0 && !saver->has(progress().step) ? 1.0 : 0.0) == 0;
  }
  state.shares = shares ? save_shares(*shares, world()) : "";
  state.loss_scale = parts.learner.loss_scale().save();
  state.gradient_norms = bad_steps.spikes() ? bad_steps.spikes()->save() : "";
  at_checkpoint(true, [&] { saver->prepare(state, to_yaml(config()), {.write = !saved_here, .best = best}); });
  saver->start();
  last_save = parts.clock.seconds();
  saved_here = true;
}

/// Checkpoints are on disk.
void Trainer::Impl::settle_saves() {
  const bool first = world().rank() == 0;
  if (saver->several()) at_checkpoint(!first, [&] { saver->settle(); });   // whom rank 0 waits for is not rank 0
  at_checkpoint(first, [&] { saver->settle(); });
}

std::unique_ptr<Watchdog> Trainer::Impl::watch() {
  WatchdogOptions options;
  options.seconds = config().parallel.hang_seconds;
  options.on_hang = [this](const std::string& report) {
    std::fwrite(report.data(), 1, report.size(), stderr);   // the log's lock may be what hangs
    std::fflush(stderr);
    world().control().abort(static_cast<int>(ExitCode::hang));
  };
  return std::make_unique<Watchdog>(world().control().duplicate(), parts.learner.heartbeat(), std::move(options));
}

TrainResult Trainer::Impl::finish(TrainResult::Ending ending) {
  TrainResult result;
  result.ending = ending;
  save();   // first: who asked to stop may not wait for evaluations
  settle_saves();
  if (ending != TrainResult::Ending::signal) {
    if (progress().validated_step != progress().step) validate();
    settle_saves();
    result.validation = last_validation;
    if (ending != TrainResult::Ending::paused) result.test = evaluate_split("test", parts.data.test);   // it goes on
  }
  result.steps = progress().step;
  result.epochs = progress().step / plan.steps_per_epoch();
  result.samples_per_second = training_seconds > 0 ? static_cast<double>(samples_done) / training_seconds : 0;
  result.seconds = progress().seconds;
  result.train = train_means(progress());
  return result;
}

TrainResult Trainer::run() {
  using Ending = TrainResult::Ending;
  Impl& self = *impl_;
  const RunConfig& config = self.config();
  self.last_save = self.parts.clock.seconds();
  self.started = self.last_save - self.progress().seconds;   // max_minutes counts all attempts
  const ShareChoice choice = choose_run_shares(config, self.plan.global_piece(0).global_size(), self.world(), self.parts.learner, self.parts.recorded, self.state.shares);
  self.shares = choice.rule;
  self.share_unit = choice.unit;
  if (self.shares || (self.world().size() > 1 && config.parallel.strategy != "async")) log_shares(self.parts.log, self.progress().step + 1, self.present_cut(), choice.unit, choice.reason);
  const auto meet_after = [&self](std::int64_t step) {
    Wanted wanted;
    self.due_after(step, wanted);
    return wanted.anything();
  };
  const auto serving = [&self](bool updated) {   // a step of hours, which says nothing about when a rank is late
    Heartbeat& heartbeat = self.parts.learner.heartbeat();
    if (updated) {
      heartbeat.begin_step(self.progress().step + 1);
      heartbeat.enter(Phase::waiting);
    }
    return self.parts.stop.raised();
  };
  self.strategy = make_strategy({self.world(), config, self.parts.learner, self.outer.get(), self.plan, self.progress().step, self.shares,
                                 self.bad_steps.spikes(), self.parts.clock, meet_after, serving, self.parts.record_update, self.parts.repeat});
  self.open_saver();
  const auto watchdog = self.watch();
  // An earlier attempt may have been asked to stop before this step was evaluated, or cut short after that.
  const std::int64_t first = self.progress().step;
  const bool left_out = self.eval_interval > 0 && first / self.eval_interval > std::max<std::int64_t>(self.progress().validated_step, 0) / self.eval_interval;
  if (left_out) self.validate();
  if (self.stopped_early()) return self.finish(Ending::early_stop);
  const bool at_end = first >= self.plan.total_steps && self.plan.total_steps > 0;
  if (self.pause_step > 0 && first >= self.pause_step && !at_end) return self.finish(Ending::paused);
  Wanted wanted;   // as soon as all ranks hold the same
  self.accounted = self.parts.clock.seconds();
  while (const auto piece = self.strategy->next_piece()) {
    const StepFacts facts = self.one_step(*piece);
    const double now = self.parts.clock.seconds();
    self.settled = facts.settled;
    self.step_log.spend(facts);
    for (const GlobalStep& step : facts.steps) {
      self.account(step, (now - self.accounted) / static_cast<double>(facts.steps.size()));
      if (const auto text = self.bad_steps.over(step)) self.warn(*text);
      self.due_after(self.progress().step, wanted);
    }
    self.give_up_when_hopeless(facts);
    if (facts.share_change) log_shares(self.parts.log, self.progress().step + 1, facts.share_change->shares, self.share_unit, facts.share_change->reason);
    wanted.save = wanted.save || facts.save;
    wanted.stop = std::max(wanted.stop, facts.stop);
    if (self.settled) {
      self.step_log.settled(self.progress().step);
      if (wanted.compare) require_same_state(self.world().control(), self.state);
      if (wanted.stop == StopReason::signal) return self.finish(Ending::signal);   // an evaluation can wait, who asked may not
      if (wanted.validate) self.validate();
      if (wanted.save) self.save();
      if (wanted.stop == StopReason::limit) return self.finish(Ending::time_limit);
      if (self.stopped_early()) return self.finish(Ending::early_stop);
      if (wanted.pause && self.progress().step < self.plan.total_steps) return self.finish(Ending::paused);
      wanted = {};
    }
    if (self.settled || !facts.steps.empty()) self.accounted = self.parts.clock.seconds();
  }
  return self.finish(Ending::done);
}

}  // namespace tugline
