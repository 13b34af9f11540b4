// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/sync/sync_strategy.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include <fmt/format.h>
#include <torch/torch.h>

#include "tugline/core/error.hpp"
#include "tugline/core/optim/clip.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/balance/share_rule.hpp"
#include "tugline/parallel/node/node_memory.hpp"
#include "tugline/parallel/sync/bucket_reducer.hpp"

namespace tugline {
namespace {

/// One rank's part of a step on the wire; doubles only, so that it is the same bytes everywhere.
struct Record {
  double weight, loss_sum, correct, counted, samples, stop, save, data_seconds, compute_seconds, cpu_seconds;
  double finite, squares;   // of what this rank watches of the summed gradient
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
  bool common;                             // parameters are a copy for all ranks of the host
  std::vector<Range> watched;              // of all buckets: what this rank looks at
  std::vector<Arena::Segment> segments;    // what it steps: everything, or its part of the common copy

  Impl(Communicator& gradients, Communicator& control_in, Arena& arena_in, Optimizer& optimizer_in, Schedule schedule_in,
       StepPlan plan_in, SyncOptions options_in, const Clock& clock_in)
      : control(control_in), arena(arena_in), optimizer(optimizer_in), schedule(schedule_in), plan(plan_in),
        options(std::move(options_in)), clock(clock_in),
        reducer(arena_in, make_sum(gradients), control_in, options.shards / gradients.size()),
        rank(gradients.rank()), size(gradients.size()), step(options.first_step), records(static_cast<std::size_t>(size)),
        common(has_common_values(options.node.get(), arena)) {
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
  Piece share(const Piece& global) const {
    if (options.shards > 0) return shards_of(global, options.shards, rank, size);
    return options.shares ? share_of(global, options.shares->shares(global), rank) : equal_share(global, rank, size);
  }
  void observe(StepFacts& facts) const;
  StepFacts add_up(const StepReport& report) const;
  void check_gradients(StepFacts& facts) const;
  void step_optimizer(StepFacts& facts);
};

SyncStrategy::SyncStrategy(Communicator& gradients, Communicator& control, Arena& arena, Optimizer& optimizer,
                           Schedule schedule, StepPlan plan, SyncOptions options, const Clock& clock)
    : impl_(std::make_unique<Impl>(gradients, control, arena, optimizer, schedule, plan, std::move(options), clock)) {}
SyncStrategy::~SyncStrategy() = default;

std::optional<Piece> SyncStrategy::next_piece() {
  if (impl_->step >= impl_->plan.total_steps) return std::nullopt;
  impl_->current = impl_->share(impl_->plan.global_piece(impl_->step++));
  return impl_->current;
}

std::optional<Piece> SyncStrategy::upcoming(const Piece& piece) const {
  if (piece.step + 1 >= impl_->plan.total_steps) return std::nullopt;
  return impl_->share(impl_->plan.global_piece(piece.step + 1));
}

void SyncStrategy::begin_step(int backwards, double nominal_weight) {
  impl_->arena.rebind_values();
  impl_->nominal_weight = nominal_weight;
  impl_->reducer.arm(backwards);
}

StepFacts SyncStrategy::finish_step(const StepReport& report) {
  Impl& self = *impl_;
  const double start = self.clock.seconds();
  self.reducer.finish();
  const Record mine{report.weight, report.loss_sum, report.correct, report.counted,
                    static_cast<double>(self.current.size()), static_cast<double>(report.stop),
                    static_cast<double>(report.save), report.data_seconds, report.compute_seconds, report.cpu_seconds,
                    static_cast<double>(self.reducer.finite()),
                    self.options.clip_norm > 0 ? squared_norm(self.arena, self.watched) : 0};
  self.control.all_gather(&mine, sizeof mine, self.records.data());
  const double exchanged = self.clock.seconds();

  StepFacts facts = self.add_up(report);
  self.check_gradients(facts);
  self.step_optimizer(facts);
  self.observe(facts);
  if (self.common) self.options.node->barrier();   // all see what all have stepped
  // What a rank spends here is first waiting for slower ranks, and only beyond that communication.
  facts.wait_seconds = std::min(facts.wait_seconds, exchanged - start);
  facts.exposed_seconds = exchanged - start - facts.wait_seconds;
  facts.optimizer_seconds = self.clock.seconds() - exchanged;
  return facts;
}

StepFacts SyncStrategy::Impl::add_up(const StepReport& report) const {
  StepFacts facts;
  double slowest = 0;
  std::vector<StepReport> reports;
  for (int r = 0; r < size; ++r) {
    const Record& record = records[static_cast<std::size_t>(r)];
    reports.push_back({.weight = record.weight, .loss_sum = record.loss_sum, .correct = record.correct, .counted = record.counted});
    facts.ranks.push_back({static_cast<std::int64_t>(record.samples), record.data_seconds, record.compute_seconds, record.cpu_seconds});
    facts.stop = std::max(facts.stop, static_cast<StopReason>(record.stop));
    facts.save = facts.save || record.save != 0;
    slowest = std::max(slowest, facts.ranks.back().busy_seconds());
    if (!std::isfinite(record.loss_sum) && facts.nonfinite_rank < 0) facts.nonfinite_rank = r;
  }
  const StepReport sum = add_pairwise(std::move(reports));
  facts.weight = sum.weight;
  facts.correct = sum.correct;
  facts.counted = sum.counted;
  facts.loss = sum.weight > 0 ? sum.loss_sum / sum.weight : 0;
  facts.finite = facts.nonfinite_rank < 0;
  facts.data_seconds = report.data_seconds;
  facts.compute_seconds = report.compute_seconds;
  facts.wait_seconds = slowest - report.data_seconds - report.compute_seconds;
  facts.bytes_sent = reducer.sum().bytes();
  facts.lr = schedule.lr(current.step);
  return facts;
}

/// The rule learns what the step took. Each rank has its own, and all must have come to the same shares.
void SyncStrategy::Impl::observe(StepFacts& facts) const {
  if (!options.shares || !facts.finite) return;   // the same step may come again
  const auto shares = options.shares->shares(current);
  for (std::size_t r = 0; r < shares.size(); ++r) {
    if (facts.ranks[r].samples == shares[r]) continue;
    throw Error(fmt::format("step {}: rank {} took {} samples, and {} by what rank {} knows: ranks cut the batch differently",
                            current.step + 1, r, facts.ranks[r].samples, shares[r], rank));
  }
  if (auto change = options.shares->observe(current, facts.ranks)) facts.share_change = std::move(change);
}

/// Each rank has looked at its part; every rank adds up the same records and comes to the same answer.
void SyncStrategy::Impl::check_gradients(StepFacts& facts) const {
  if (!facts.finite || facts.weight <= 0) return;
  double squares = 0;
  for (const Record& record : records) {
    squares += record.squares;
    if (record.finite == 0) facts.finite = false;
  }
  if (options.clip_norm <= 0) return;
  if (options.shards > 0) {   // in one order too
    std::vector<Range> all;
    for (const auto& bucket : arena.buckets()) all.push_back(bucket.range);
    squares = squared_norm(arena, all);
  }
  facts.gradient_norm = std::sqrt(squares) * nominal_weight / facts.weight;
  facts.finite = facts.finite && std::isfinite(facts.gradient_norm);   // squares may overflow where elements do not
}

void SyncStrategy::Impl::step_optimizer(StepFacts& facts) {
  if (!facts.finite || facts.weight <= 0) return reducer.forget();
  double scale = nominal_weight / facts.weight;
  if (options.clip_norm > 0) scale *= clip_factor(facts.gradient_norm, options.clip_norm);
  for (const auto& segment : segments) {
    if (options.clip_value > 0) clip_by_value(arena, std::span(&segment.range, 1), options.clip_value / scale);
    optimizer.step(segment.range, segment.group, facts.lr, current.step + 1, scale);
  }
}

}  // namespace tugline
