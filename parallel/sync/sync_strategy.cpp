// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/sync/sync_strategy.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

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
  StepPart host_part(StepReport report, double& added);
  StepPart device_part(StepReport report, double& start);
  void check_gradients(StepFacts& facts, double squares) const;
  void step_optimizer(const GlobalStep& step);
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

StepFacts SyncStrategy::finish_step(const StepReport& reported) {
  Impl& self = *impl_;
  double start = self.clock.seconds(), added = 0;
  const StepPart part = self.arena.device().is_cpu() ? self.host_part(reported, added) : self.device_part(reported, start);
  StepSums sums = self.records.exchange(part);
  const double exchanged = self.clock.seconds();

  StepFacts& facts = sums.facts;
  GlobalStep& step = facts.steps.front();
  step.piece = self.pieces.current();
  facts.bytes_sent = self.reducer.sum().bytes();
  step.lr = self.schedule.lr(self.pieces.current().step);
  // Each rank has looked at its part; every rank adds up the same records and comes to the same answer.
  facts.finite = facts.finite && (sums.finite || step.weight <= 0);
  self.check_gradients(facts, sums.squares);
  step.made = step.finite = facts.finite;
  self.step_optimizer(step);
  if (self.options.shares) observe_shares(*self.options.shares, self.pieces.current(), facts);
  if (self.common) self.options.node->barrier();   // all see what all have stepped
  // What a rank spends here is first waiting for slower ranks, and only beyond that communication.
  facts.wait_seconds = std::min(facts.wait_seconds, exchanged - start);
  facts.exposed_seconds = added + exchanged - start - facts.wait_seconds;
  facts.optimizer_seconds = self.clock.seconds() - exchanged;
  return facts;
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

/// The host waits until the device has computed, from when on (`start`) it is communication; then once more, for all that it must know.
StepPart SyncStrategy::Impl::device_part(StepReport report, double& start) {
  wait_for_compute(report);
  start = clock.seconds();
  reducer.finish();
  std::vector<at::Tensor> numbers{magnitude_there(arena)};
  if (wants_norm()) {
    for (const Range& range : watched) numbers.push_back(squared_norm_there(arena, range));
  }
  const std::vector<double> read = read_late(report, std::move(numbers));
  return {report, pieces.current().size(), std::isfinite(read.front()), std::accumulate(read.begin() + 1, read.end(), 0.0)};
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

void SyncStrategy::Impl::step_optimizer(const GlobalStep& step) {
  if (!step.finite || step.weight <= 0) return reducer.forget();
  const TraceRange range("optimizer");
  double scale = nominal_weight / step.weight;
  if (options.clip_norm > 0) scale *= clip_factor(step.gradient_norm, options.clip_norm);
  for (const auto& segment : segments) {
    if (options.clip_value > 0) clip_by_value(arena, std::span(&segment.range, 1), options.clip_value / scale);
    optimizer.step(segment.range, segment.group, {.lr = step.lr, .number = static_cast<double>(step.piece.step + 1), .grad_scale = scale});
  }
}

}  // namespace tugline
