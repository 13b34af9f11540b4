// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/sync/sync_strategy.hpp"

#include <algorithm>
#include <cmath>

#include <torch/torch.h>

#include "tugline/core/optim/clip.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/sync/bucket_reducer.hpp"

namespace tugline {
namespace {

/// One rank's part of a step on the wire; doubles only, so that it is the same bytes everywhere.
struct Record {
  double weight, loss_sum, correct, counted, samples, stop, save, data_seconds, compute_seconds;
};

}  // namespace

struct SyncStrategy::Impl {
  Communicator& control;
  Arena& arena;
  Optimizer& optimizer;
  Schedule schedule;
  StepPlan plan;
  SyncOptions options;
  const Clock& clock;
  BucketReducer reducer;
  int rank, size;
  std::int64_t step;          // the next one to hand out
  Piece current;
  double nominal_weight = 1;
  std::vector<Record> records;
  std::vector<Range> ranges;   // of all buckets

  Impl(Communicator& gradients, Communicator& control_in, Arena& arena_in, Optimizer& optimizer_in, Schedule schedule_in,
       StepPlan plan_in, SyncOptions options_in, const Clock& clock_in)
      : control(control_in), arena(arena_in), optimizer(optimizer_in), schedule(schedule_in), plan(plan_in),
        options(options_in), clock(clock_in), reducer(gradients, arena_in), rank(gradients.rank()), size(gradients.size()),
        step(options_in.first_step), records(static_cast<std::size_t>(size)) {
    for (const auto& bucket : arena.buckets()) ranges.push_back(bucket.range);
  }

  std::unique_ptr<Work> start_records(const Record& mine) {
    return control.start_all_gather(&mine, sizeof mine, records.data());
  }
  StepFacts add_up(const StepReport& report) const;
  void check_gradients(StepFacts& facts) const;
  void step_optimizer(StepFacts& facts);
};

SyncStrategy::SyncStrategy(Communicator& gradients, Communicator& control, Arena& arena, Optimizer& optimizer,
                           Schedule schedule, StepPlan plan, SyncOptions options, const Clock& clock)
    : impl_(std::make_unique<Impl>(gradients, control, arena, optimizer, schedule, plan, options, clock)) {}
SyncStrategy::~SyncStrategy() = default;

std::optional<Piece> SyncStrategy::next_piece() {
  if (impl_->step >= impl_->plan.total_steps) return std::nullopt;
  impl_->current = equal_share(impl_->plan.global_piece(impl_->step++), impl_->rank, impl_->size);
  return impl_->current;
}

std::optional<Piece> SyncStrategy::upcoming(const Piece& piece) const {
  if (piece.step + 1 >= impl_->plan.total_steps) return std::nullopt;
  return equal_share(impl_->plan.global_piece(piece.step + 1), impl_->rank, impl_->size);
}

void SyncStrategy::begin_step(int backwards, double nominal_weight) {
  impl_->arena.rebind();
  impl_->arena.zero_gradients();
  impl_->nominal_weight = nominal_weight;
  impl_->reducer.arm(backwards);
}

StepFacts SyncStrategy::finish_step(const StepReport& report) {
  Impl& self = *impl_;
  const double start = self.clock.seconds();
  const Record mine{report.weight, report.loss_sum, report.correct, report.counted,
                    static_cast<double>(self.current.size()), static_cast<double>(report.stop),
                    static_cast<double>(report.save), report.data_seconds, report.compute_seconds};
  auto records = self.start_records(mine);
  self.reducer.finish();
  records->wait();
  const double exchanged = self.clock.seconds();

  StepFacts facts = self.add_up(report);
  self.check_gradients(facts);
  self.step_optimizer(facts);
  // What a rank spends here is first waiting for slower ranks, and only beyond that communication.
  facts.wait_seconds = std::min(facts.wait_seconds, exchanged - start);
  facts.exposed_seconds = exchanged - start - facts.wait_seconds;
  facts.optimizer_seconds = self.clock.seconds() - exchanged;
  return facts;
}

StepFacts SyncStrategy::Impl::add_up(const StepReport& report) const {
  StepFacts facts;
  double loss_sum = 0, slowest = 0;
  for (int r = 0; r < size; ++r) {
    const Record& record = records[static_cast<std::size_t>(r)];
    facts.weight += record.weight;
    loss_sum += record.loss_sum;
    facts.correct += record.correct;
    facts.counted += record.counted;
    facts.shares.push_back(static_cast<std::int64_t>(record.samples));
    facts.busy_seconds.push_back(record.data_seconds + record.compute_seconds);
    facts.stop = std::max(facts.stop, static_cast<StopReason>(record.stop));
    facts.save = facts.save || record.save != 0;
    slowest = std::max(slowest, record.data_seconds + record.compute_seconds);
    if (!std::isfinite(record.loss_sum) && facts.nonfinite_rank < 0) facts.nonfinite_rank = r;
  }
  facts.loss = facts.weight > 0 ? loss_sum / facts.weight : 0;
  facts.finite = facts.nonfinite_rank < 0;
  facts.data_seconds = report.data_seconds;
  facts.compute_seconds = report.compute_seconds;
  facts.wait_seconds = slowest - report.data_seconds - report.compute_seconds;
  facts.bytes_sent = reducer.bytes();
  facts.lr = schedule.lr(current.step);
  return facts;
}

/// The summed gradients are the same bits on every rank, so every rank comes to the same answer without asking.
void SyncStrategy::Impl::check_gradients(StepFacts& facts) const {
  if (!facts.finite || facts.weight <= 0) return;
  if (options.clip_norm > 0) {
    facts.gradient_norm = std::sqrt(squared_norm(arena, ranges)) * nominal_weight / facts.weight;
    facts.finite = std::isfinite(facts.gradient_norm);
    return;
  }
  for (const auto& flat : arena.flats()) {
    if (flat.gradients.defined() && !std::isfinite(flat.gradients.sum().item<double>())) facts.finite = false;
  }
}

void SyncStrategy::Impl::step_optimizer(StepFacts& facts) {
  if (!facts.finite || facts.weight <= 0) return;
  double scale = nominal_weight / facts.weight;
  if (options.clip_norm > 0) scale *= clip_factor(facts.gradient_norm, options.clip_norm);
  if (options.clip_value > 0) clip_by_value(arena, ranges, options.clip_value / scale);
  for (const auto& segment : arena.segments()) {
    optimizer.step(segment.range, segment.group, facts.lr, current.step + 1, scale);
  }
}

}  // namespace tugline
