// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/local/local_strategy.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>
#include <torch/torch.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/device_reading.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/optim/clip.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/core/state/bucket_hooks.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/late_report.hpp"
#include "tugline/parallel/node/node_memory.hpp"
#include "tugline/parallel/piece_cutter.hpp"
#include "tugline/parallel/step_records.hpp"
#include "tugline/parallel/sync/bucket_sum.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

/// What follows gradients within few steps may be rounded. A slot that gathers for long would stand still: what a round adds to it is less than
/// half the distance between two bfloat16.
bool forgets_soon(const Optimizer::SlotBuffer& slot) { return slot.name == "momentum" || slot.name == "exp_avg"; }

}  // namespace

struct LocalStrategy::Impl {
  Communicator& control;
  Arena& arena;
  Optimizer &inner, &outer;
  Schedule schedule;
  PieceCutter pieces;
  LocalOptions options;
  const Clock& clock;
  BucketHooks hooks;                     // gather this rank's gradients; nothing leaves
  std::unique_ptr<BucketSum> moves;      // of the parameters
  std::unique_ptr<BucketSum> states;     // of the inner optimizer's slots, as they are ...
  std::unique_ptr<BucketSum> rounded;    // ... and of those that may be rounded
  StepRecords records;
  int rank, size;
  double nominal_weight = 1;
  std::vector<at::Tensor> values, gradients;   // of the flats, as far as anything is trained
  std::vector<at::Tensor> round_start;   // of values
  double sending_seconds = 0;            // of this step
  double magnitude = 0;                  // of the last mean, on a device
  std::int64_t steps_of_round = 0;       // done
  std::vector<double> weights_of_round;  // per rank
  std::vector<Range> buckets;

  Impl(Communicator& moves_in, Communicator& control_in, Arena& arena_in, Optimizer& inner_in, Optimizer& outer_in, Schedule schedule_in,
       StepPlan plan_in, LocalOptions options_in, const Clock& clock_in)
      : control(control_in), arena(arena_in), inner(inner_in), outer(outer_in), schedule(schedule_in),
        pieces(moves_in, plan_in, {.first_step = options_in.first_step, .shares = options_in.shares}), options(std::move(options_in)), clock(clock_in), hooks(arena_in, [](int) {}), moves(make_sum(moves_in, options.exchange)),
        records(control_in), rank(control_in.rank()), size(control_in.size()),
        weights_of_round(static_cast<std::size_t>(size), 0) {
    if (has_common_values(options.node.get(), arena)) throw Error("local steps need a copy of the parameters per rank");
    ExchangeOptions unrounded = options.exchange;
    unrounded.bfloat16 = false;
    for (const auto& slot : inner.slots()) {
      auto& sum = forgets_soon(slot) ? rounded : states;
      if (options.average_state && !sum) sum = make_sum(moves_in, forgets_soon(slot) ? options.exchange : unrounded);
    }
    for (const auto& bucket : arena.buckets()) buckets.push_back(bucket.range);
    for (const auto& flat : arena.flats()) {
      gradients.push_back(flat.gradients.defined() ? flat.gradients : flat.values.narrow(0, 0, 0));
      values.push_back(trained(flat.values, gradients.size() - 1));
      round_start.push_back(values.back().clone());
    }
  }

  std::unique_ptr<BucketSum> make_sum(Communicator& communicator, const ExchangeOptions& exchange) {
    return options.node ? make_node_sum(options.node, arena, exchange) : make_message_sum(communicator, arena, exchange);
  }
  /// Frozen parameters come last in a flat, and have no gradients.
  at::Tensor trained(const at::Tensor& flat, std::size_t index) const { return flat.narrow(0, 0, gradients[index].numel()); }
  bool synchronous() const { return pieces.current().step + 1 <= options.sync_steps; }
  bool ends_round() const { return pieces.at_last_step() || synchronous() || steps_of_round + 1 >= options.steps; }
  bool wants_norm() const { return options.clip_norm > 0 || options.spikes; }
  StepPart part_of(const StepReport& report, double& start);
  void look_for_spike(StepFacts& facts, double largest, double weight) const;
  void inner_step(double lr, double weight, double norm);
  void average(BucketSum& sum, const std::vector<at::Tensor>& mine);
  bool moves_are_finite();
  void outer_step(StepFacts& facts);
  void average_slot(Optimizer::SlotBuffer& slot, BucketSum* sum);
};

LocalStrategy::LocalStrategy(Communicator& gradients, Communicator& control, Arena& arena, Optimizer& inner, Optimizer& outer,
                             Schedule schedule, StepPlan plan, LocalOptions options, const Clock& clock)
    : impl_(std::make_unique<Impl>(gradients, control, arena, inner, outer, schedule, plan, std::move(options), clock)) {}
LocalStrategy::~LocalStrategy() = default;

std::optional<Piece> LocalStrategy::next_piece() { return impl_->pieces.next(); }
std::optional<Piece> LocalStrategy::upcoming(const Piece& piece) const { return impl_->pieces.upcoming(piece); }

void LocalStrategy::begin_step(int backwards, double nominal_weight) {
  impl_->arena.rebind_values();
  impl_->nominal_weight = nominal_weight;
  impl_->hooks.arm(backwards);
}

std::vector<Residual> LocalStrategy::residuals() const { return impl_->moves->residuals(); }

StepFacts LocalStrategy::finish_step(const StepReport& report) {
  Impl& self = *impl_;
  double start = self.clock.seconds();
  const StepPart part = self.part_of(report, start);
  const double norm = std::sqrt(part.squares);
  StepSums sums = self.records.exchange(part);
  const double exchanged = self.clock.seconds();
  StepFacts& facts = sums.facts;
  GlobalStep& step = facts.steps.front();
  step.piece = self.pieces.current();
  step.lr = self.schedule.lr(step.piece.step);
  step.gradient_norm = norm;
  facts.finite = facts.finite && sums.finite;
  self.look_for_spike(facts, std::sqrt(sums.largest_squares), report.weight);
  step.made = step.finite = facts.finite;
  // A step that is not finite and may come again leaves the round open.
  facts.settled = self.ends_round() && (facts.finite || (self.options.settle_skipped && self.pieces.at_last_step()));
  self.sending_seconds = 0;
  if (facts.finite) {   // else nobody steps, and the step may come again
    self.inner_step(step.lr, report.weight, norm);
    ++self.steps_of_round;
    for (std::size_t r = 0; r < sums.weights.size(); ++r) self.weights_of_round[r] += sums.weights[r];
  }
  if (facts.settled && self.steps_of_round > 0) self.outer_step(facts);
  if (self.options.shares) observe_shares(*self.options.shares, self.pieces.current(), facts);
  facts.wait_seconds = std::min(facts.wait_seconds, exchanged - start);
  facts.exposed_seconds = exchanged - start - facts.wait_seconds + self.sending_seconds;
  facts.optimizer_seconds = self.clock.seconds() - exchanged - self.sending_seconds;
  return facts;
}

/// Squares are of the mean over this rank's own samples; 0 when nobody asks. `start`: see read_part().
StepPart LocalStrategy::Impl::part_of(const StepReport& report, double& start) {
  const std::span<const Range> normed = wants_norm() && report.weight > 0 ? std::span<const Range>(buckets) : std::span<const Range>();
  StepPart part;
  if (arena.device().is_cpu()) {
    hooks.finish();
    part = {report, pieces.current().size(), hooks.finite(), normed.empty() ? 0 : squared_norm(arena, normed)};
  } else {
    part = read_part(report, pieces.current().size(), arena, normed, [this] { hooks.finish(); }, clock, start);
  }
  if (!normed.empty()) part.squares *= std::pow(nominal_weight / report.weight, 2);
  part.finite = part.finite && std::isfinite(part.squares);
  return part;
}

/// One step on one rank spoils the mean of the round for all.
void LocalStrategy::Impl::look_for_spike(StepFacts& facts, double largest, double weight) const {
  if (!facts.finite || !options.spikes || facts.steps.front().weight <= 0) return;
  facts.finite = std::isfinite(largest);
  const auto spike = facts.finite ? options.spikes->judge(largest) : std::nullopt;
  if (!spike) return;
  facts.finite = false;
  facts.spike = {*spike, {}, weight > 0 ? nominal_weight / weight : 0};
  for (const auto& slot : arena.slots()) facts.spike->own.push_back(slot.bucket >= 0 ? std::sqrt(squared_norm(arena, std::span(&slot.range, 1))) : 0);
}

void LocalStrategy::Impl::inner_step(double lr, double weight, double norm) {
  if (weight <= 0) return;   // no samples, no opinion
  // What starts from nothing in each round counts its steps from there, as adam's bias correction needs.
  const std::int64_t number = options.average_state ? pieces.current().step + 1 : steps_of_round + 1;
  double scale = nominal_weight / weight;
  if (options.clip_norm > 0) scale *= clip_factor(norm, options.clip_norm);
  for (const auto& segment : arena.segments()) {
    if (options.clip_value > 0) clip_by_value(arena, std::span(&segment.range, 1), options.clip_value / scale);
    inner.step(segment.range, segment.group, {.lr = lr, .number = static_cast<double>(number), .grad_scale = scale});
  }
}

/// The mean of `mine` (a tensor per flat) over all ranks, each weighted by what its samples of the round weigh, is then in the gradients. A device
/// is waited for: what it waits for is not what it computes next.
void LocalStrategy::Impl::average(BucketSum& sum, const std::vector<at::Tensor>& mine) {
  const double start = clock.seconds();
  const double all = std::accumulate(weights_of_round.begin(), weights_of_round.end(), 0.0);
  const double weight = all > 0 ? weights_of_round[static_cast<std::size_t>(rank)] / all : 1.0 / size;
  sum.begin();
  for (std::size_t f = 0; f < gradients.size(); ++f) at::mul_out(gradients[f], mine[f], at::scalar_tensor(weight, mine[f].options()));
  for (std::size_t bucket = 0; bucket < buckets.size(); ++bucket) sum.start(static_cast<int>(bucket));
  sum.finish();
  if (!arena.device().is_cpu()) magnitude = DeviceReading({magnitude_there(arena)}).wait().front();
  sending_seconds += clock.seconds() - start;
}

/// On all ranks.
bool LocalStrategy::Impl::moves_are_finite() {
  const double start = clock.seconds();
  const bool finite = arena.device().is_cpu() ? moves->finite() : std::isfinite(magnitude);
  const bool all = control.all_reduce(finite ? 0.0 : 1.0) == 0;
  sending_seconds += clock.seconds() - start;
  return all;
}

void LocalStrategy::Impl::outer_step(StepFacts& facts) {
  const at::NoGradGuard no_grad;
  arena.rebind();
  std::vector<at::Tensor> moved;
  for (std::size_t f = 0; f < values.size(); ++f) moved.push_back(round_start[f] - values[f]);
  average(*moves, moved);
  facts.bytes_sent = moves->bytes();
  for (std::size_t f = 0; f < values.size(); ++f) values[f].copy_(round_start[f]);
  if (!moves_are_finite()) {
    throw AgreedError(ExitCode::internal, fmt::format("step {}: the parameters of some replica are no longer finite; nothing was saved since the "
                                                      "last checkpoint; lower optim.lr or shorten parallel.local.steps", pieces.current().step + 1));
  }
  if (synchronous()) {
    for (std::size_t f = 0; f < values.size(); ++f) values[f].sub_(gradients[f]);
  } else {
    // Never the first step of an optimizer: its momentum is zero then, and zero times anything plus the move is what is meant.
    for (const auto& segment : arena.segments()) outer.step(segment.range, 0, {.lr = options.outer_lr, .number = 2});
  }
  for (std::size_t f = 0; f < values.size(); ++f) round_start[f].copy_(values[f]);
  for (auto& slot : inner.slots()) {
    BucketSum* const sum = forgets_soon(slot) ? rounded.get() : states.get();
    average_slot(slot, sum);
    if (sum != nullptr) facts.bytes_sent += sum->bytes();
  }
  steps_of_round = 0;
  std::fill(weights_of_round.begin(), weights_of_round.end(), 0);
}

/// Without a sum it begins anew.
void LocalStrategy::Impl::average_slot(Optimizer::SlotBuffer& slot, BucketSum* sum) {
  std::vector<at::Tensor> mine;
  for (std::size_t f = 0; f < slot.buffers.size(); ++f) mine.push_back(trained(slot.buffers[f], f));
  if (sum != nullptr) {
    average(*sum, mine);
    sum->forget();   // what rounding has left over of one slot is none of the next one's
  }
  for (std::size_t f = 0; f < mine.size(); ++f) sum != nullptr ? mine[f].copy_(gradients[f]) : mine[f].zero_();
}

std::unique_ptr<Optimizer> make_outer_optimizer(double momentum, Arena& arena) {
  OptimConfig config;
  config.name = "sgd";
  config.momentum = momentum;
  config.nesterov = momentum > 0;
  config.weight_decay = 0;
  auto outer = make_optimizer(config, arena);
  for (auto& slot : outer->slots()) slot.name = "outer_" + slot.name;
  return outer;
}

}  // namespace tugline
