// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/sync/sync_strategy.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <torch/torch.h>

#include "tugline/core/error.hpp"
#include "tugline/core/optim/clip.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/core/trace_range.hpp"
#include "tugline/parallel/late_report.hpp"
#include "tugline/parallel/node/node_memory.hpp"
#include "tugline/parallel/piece_cutter.hpp"
#include "tugline/parallel/step_records.hpp"
#include "tugline/parallel/sync/bucket_reducer.hpp"
#include "tugline/parallel/sync/steps_ahead.hpp"

namespace tugline {
struct SyncStrategy::Impl {
  Communicator& control;
  Arena& arena;
  Optimizer& optimizer;
  Schedule schedule;
  PieceCutter pieces;
  SyncOptions options;
  const Clock& clock;
  BucketReducer reducer;
  double nominal_weight = 1;
  StepRecords records;
  bool common;                             // parameters are a copy for all ranks of the host
  std::vector<Range> watched;              // of all buckets: what this rank looks at
  std::vector<Arena::Segment> segments;    // what it steps: everything, or its part of the common copy
  std::optional<StepsAhead> ahead;         // the device's, where the host does not wait for each

  Impl(Communicator& gradients, Communicator& control_in, Arena& arena_in, Optimizer& optimizer_in, Schedule schedule_in,
       StepPlan plan_in, SyncOptions options_in, const Clock& clock_in)
      : control(control_in), arena(arena_in), optimizer(optimizer_in), schedule(schedule_in),
        pieces(gradients, plan_in, {options_in.first_step, options_in.shards, options_in.shares}), options(std::move(options_in)), clock(clock_in),
        reducer(arena_in, make_sum(gradients), control_in, options.shards / gradients.size(), clock_in),
        records(control_in), common(has_common_values(options.node.get(), arena)) {
    if (options.spikes) reducer.keep_squares();
    if (common && options.shards > 0) throw Error("shards need a copy of the parameters per rank");
    if (common && !optimizer.elementwise()) {
      throw Error("this optimizer steps whole tensors only: give each rank its own copy of the parameters");
    }
    for (int bucket = 0; bucket < static_cast<int>(arena.buckets().size()); ++bucket) watched.push_back(reducer.sum().watched(bucket));
    for (Arena::Segment segment : arena.segments()) {
      const Range held = reducer.sum().held(segment.bucket);
      segment.range.begin = std::max(segment.range.begin, held.begin);
      segment.range.end = std::min(segment.range.end, held.end);
      if (segment.range.begin < segment.range.end) segments.push_back(segment);
    }
    if (options.read_every <= 1 || arena.device().is_cpu()) return;
    if (options.spikes) throw Error("spikes are judged before a step is made: read_every must be 1");
    if (options.clip_norm > 0 && options.clip_value > 0) throw Error("one of clip_norm and clip_value at most, or read_every must be 1");
    ahead.emplace(gradients, arena, watched, StepsAhead::Options{wants_norm(), options.clip_norm, options.wait_for_nonfinite});
  }

  std::unique_ptr<BucketSum> make_sum(Communicator& gradients) {
    const int ranks = gradients.size();
    if (options.shards > 0 && (!std::has_single_bit(static_cast<unsigned>(ranks)) || options.shards % ranks != 0)) {
      throw Error(fmt::format("{} shards are for ranks that are a power of two and no more than that, not for {}", options.shards, ranks));
    }
    options.exchange.pairwise = options.shards > 0;
    return options.node ? make_node_sum(options.node, arena, options.exchange) : make_message_sum(gradients, arena, options.exchange);
  }
  bool wants_norm() const { return options.clip_norm > 0 || options.spikes; }
  std::span<const Range> normed() const { return wants_norm() ? std::span<const Range>(watched) : std::span<const Range>(); }
  StepFacts finish_now(const StepReport& reported);
  StepFacts finish_ahead(const StepReport& report);
  StepFacts read_steps();
  StepPart host_part(StepReport report, double& added);
  void check_gradients(StepFacts& facts, double squares) const;
  void step_optimizer(const GlobalStep& step, Update update);
};

SyncStrategy::SyncStrategy(Communicator& gradients, Communicator& control, Arena& arena, Optimizer& optimizer,
                           Schedule schedule, StepPlan plan, SyncOptions options, const Clock& clock)
    : impl_(std::make_unique<Impl>(gradients, control, arena, optimizer, schedule, plan, std::move(options), clock)) {}
SyncStrategy::~SyncStrategy() = default;

std::optional<Piece> SyncStrategy::next_piece() { return impl_->pieces.next(); }
std::optional<Piece> SyncStrategy::upcoming(const Piece& piece) const { return impl_->pieces.upcoming(piece); }

void SyncStrategy::begin_step(int backwards, double nominal_weight) {
  impl_->arena.rebind_values();
  impl_->nominal_weight = nominal_weight;
  impl_->reducer.arm(backwards);
}

std::vector<Residual> SyncStrategy::residuals() const { return impl_->reducer.sum().residuals(); }

StepFacts SyncStrategy::finish_step(const StepReport& report) { return impl_->ahead ? impl_->finish_ahead(report) : impl_->finish_now(report); }

StepFacts SyncStrategy::Impl::finish_now(const StepReport& reported) {
  double start = clock.seconds(), added = 0;
  const StepPart part = arena.device().is_cpu() ? host_part(reported, added)
                                                   : read_part(reported, pieces.current().size(), arena, normed(), [this] { reducer.finish(); }, clock, start);
  StepSums sums = records.exchange(part);
  const double exchanged = clock.seconds();

  StepFacts& facts = sums.facts;
  GlobalStep& step = facts.steps.front();
  step.piece = pieces.current();
  facts.bytes_sent = reducer.sum().bytes();
  step.lr = schedule.lr(pieces.current().step);
  // Each rank has looked at its part; every rank adds up the same records and comes to the same answer.
  facts.finite = facts.finite && (sums.finite || step.weight <= 0);
  check_gradients(facts, sums.squares);
  step.made = step.finite = facts.finite;
  if (step.made && step.weight > 0) {
    const double clip = options.clip_norm > 0 ? clip_factor(step.gradient_norm, options.clip_norm) : 1;
    step_optimizer(step, {.grad_scale = nominal_weight / step.weight * clip});
  } else {
    reducer.forget();
  }
  if (options.shares) observe_shares(*options.shares, pieces.current(), facts);
  if (common) options.node->barrier();   // all see what all have stepped
  // What a rank spends here is first waiting for slower ranks, and only beyond that communication.
  facts.wait_seconds = std::min(facts.wait_seconds, exchanged - start);
  facts.exposed_seconds = added + exchanged - start - facts.wait_seconds;
  facts.optimizer_seconds = clock.seconds() - exchanged;
  return facts;
}

/// Hosts tell each other what they know without their devices: how much the samples weigh, and whether somebody wants to stop or save.
StepFacts SyncStrategy::Impl::finish_ahead(const StepReport& report) {
  if (report.late && report.late->phase) report.late->phase(false);
  reducer.finish();
  const StepFacts told = records.exchange({report, pieces.current().size()}).facts;
  const double exchanged = clock.seconds();
  GlobalStep step = told.steps.front();
  step.piece = pieces.current();
  step.lr = schedule.lr(step.piece.step);
  const double scale = step.weight > 0 ? nominal_weight / step.weight : 0;
  const LateVerdict verdict = ahead->add(step, report, step.piece.size(), scale);
  if (step.weight > 0) step_optimizer(step, {.grad_scale = scale, .scale_there = verdict.scale, .left_out = verdict.left_out.to(at::kFloat)});
  ahead->mark_end();
  const double optimizer_seconds = clock.seconds() - exchanged;
  const bool read = std::cmp_greater_equal(ahead->size(), options.read_every) || !pieces.upcoming(step.piece) || told.stop != StopReason::none || told.save ||
                    (options.meet_after && options.meet_after(step.piece.step + 1));
  StepFacts facts = read ? read_steps() : StepFacts{.settled = false};
  facts.verdict = std::make_shared<LateVerdict>(verdict);
  facts.stop = told.stop;
  facts.save = told.save;
  facts.bytes_sent = reducer.sum().bytes();
  facts.optimizer_seconds = optimizer_seconds;
  return facts;
}

/// All steps since the last reading. Where one that is not finite holds up those after it, they have never been.
StepFacts SyncStrategy::Impl::read_steps() {
  ahead->wait_for_compute();
  const double computed = clock.seconds();
  StepFacts all;
  for (const StepsAhead::Read& one : ahead->read()) {
    StepSums sums = records.exchange(one.part);
    StepFacts& facts = sums.facts;
    GlobalStep& step = facts.steps.front();
    step.piece = one.step.piece;
    step.lr = one.step.lr;
    step.made = step.finite = facts.finite = facts.finite && sums.finite;
    if (step.finite == one.left_out) throw Error(fmt::format("step {}: rank and device do not agree on whether it is finite", step.piece.step + 1));
    if (step.finite && step.weight > 0 && wants_norm()) step.gradient_norm = one.norm;
    if (options.shares && !all.share_change) {   // which steps told to a device before were not cut by
      observe_shares(*options.shares, step.piece, facts);
      all.share_change = std::move(facts.share_change);
    }
    all.data_seconds += facts.data_seconds;
    all.compute_seconds += facts.compute_seconds;
    all.wait_seconds += facts.wait_seconds;
    all.steps.push_back(std::move(step));
    if (facts.finite || !options.wait_for_nonfinite) continue;
    all.finite = false;
    all.nonfinite_rank = facts.nonfinite_rank;
    break;
  }
  all.exposed_seconds = clock.seconds() - computed;
  return all;
}

/// Waits for the buckets. Who comes last adds up within its backward pass what others add up later: that is no slowness of its own, but
/// `added` to what it spends on communication.
StepPart SyncStrategy::Impl::host_part(StepReport report, double& added) {
  added = std::min(reducer.seconds_in_backward(), report.compute_seconds);
  report.compute_seconds -= added;
  report.cpu_seconds = std::max(0.0, report.cpu_seconds - added);
  reducer.finish();
  return {report, pieces.current().size(), reducer.finite(), wants_norm() ? squared_norm(arena, watched) : 0};
}

void SyncStrategy::Impl::check_gradients(StepFacts& facts, double squares) const {
  GlobalStep& step = facts.steps.front();
  if (!facts.finite || step.weight <= 0 || !wants_norm()) return;
  if (options.shards > 0) {   // in one order too
    std::vector<Range> all;
    for (const auto& bucket : arena.buckets()) all.push_back(bucket.range);
    squares = squared_norm(arena, all);
  }
  const double scale = nominal_weight / step.weight;
  step.gradient_norm = std::sqrt(squares) * scale;
  facts.finite = std::isfinite(step.gradient_norm);   // squares may overflow where elements do not
  if (!facts.finite || !options.spikes) return;
  const auto spike = options.spikes->judge(step.gradient_norm);
  if (!spike) return;
  facts.finite = false;
  facts.spike = {*spike, reducer.own_norms(), scale};
}

void SyncStrategy::Impl::step_optimizer(const GlobalStep& step, Update update) {
  const TraceRange range("optimizer");
  update.lr = step.lr;
  update.number = static_cast<double>(step.piece.step + 1);
  for (const auto& segment : segments) {
    if (options.clip_value > 0) clip_by_value(arena, std::span(&segment.range, 1), options.clip_value / update.grad_scale);
    optimizer.step(segment.range, segment.group, update);
  }
}

}  // namespace tugline
