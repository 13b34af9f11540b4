// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/async/async_strategy.hpp"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <limits>
#include <set>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <torch/torch.h>

#include "tugline/core/error.hpp"
#include "tugline/core/optim/clip.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/core/state/bucket_hooks.hpp"
#include "tugline/parallel/async/piece_record.hpp"
#include "tugline/parallel/async/job_ranges.hpp"
#include "tugline/parallel/async/step_book.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/late_report.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

constexpr int kRecordTag = 21;
constexpr std::uint32_t kOwn = std::numeric_limits<std::uint32_t>::max();   // the version of values that nobody else has
constexpr std::int64_t kMostStepsApart = 1000;   // between meetings: until then rank 0 keeps what each piece was ...
constexpr std::int64_t kMostTold = std::int64_t{64} << 20;   // ... which are so many bytes at most, but for those of one step
constexpr std::chrono::milliseconds kServerNap{1};
constexpr double kLeastSpeedRatio = 2, kMostSpeedRatio = 16;   // that a bound of its own allows for

void require_same_run(const RecordedUpdates& recorded, const UpdatePlan& here, int workers, const StepPlan& plan) {
  const auto refuse = [](const std::string& what) { throw AgreedError(ExitCode::config, "parallel.async.replay: " + what); };
  const auto describe = [](const UpdatePlan& cut) {
    return fmt::format("{} pieces per step of {} parts, and {} ranges of parameters", cut.pieces_per_step, cut.local_steps, cut.ranges);
  };
  if (recorded.ranks != here.ranks) refuse(fmt::format("the recorded run had {} ranks, and here are {}", recorded.ranks, here.ranks));
  if (static_cast<const UpdatePlan&>(recorded) != here) {
    refuse(fmt::format("the recorded run had {}; this one has {}: use its config", describe(recorded), describe(here)));
  }
  for (const auto& [number, record] : recorded.pieces) {
    if (record.rank >= workers) refuse(fmt::format("rank {} computed in the recorded run, and is one of parallel.async.servers here", record.rank));
  }
  const std::int64_t pieces = plan.total_steps * here.pieces_per_step;
  if (std::ssize(recorded.pieces) != pieces || recorded.pieces.rbegin()->first + 1 != std::ssize(recorded.pieces)) {
    refuse(fmt::format("the recorded run has {} pieces, and this one {}: it must have been finished, with this config", recorded.pieces.size(), pieces));
  }
}

/// Of two parts of a piece.
StepReport sum_of(const StepReport& before, const StepReport& part) {
  StepReport sum = add_pairwise({before, part});
  sum.data_seconds += part.data_seconds;
  sum.compute_seconds += part.compute_seconds;
  sum.cpu_seconds += part.cpu_seconds;
  return sum;
}

}  // namespace

int async_workers(int ranks, int hosts, std::int64_t servers) {
  const auto refuse = [&](const std::string& why) { throw AgreedError(ExitCode::config, fmt::format("parallel.async.servers {}: {}", servers, why)); };
  if (servers >= ranks) refuse(fmt::format("of {} ranks, at least one must compute", ranks));
  if (servers > 0 && hosts < 2) refuse("ranks of one host keep the parameters in memory that they share, and need no server; set it to 0");
  return ranks - static_cast<int>(servers);
}

struct AsyncStrategy::Impl {
  Communicator& messages;
  Communicator& control;
  Arena& arena;
  Arena& model;                                // the same on the host
  StepPlan plan;
  AsyncOptions options;
  Schedule schedule;
  const Clock& clock;
  int rank, size, workers;
  std::int64_t pieces_per_step, staleness;
  std::vector<RangeScript> scripts;            // of the repeated run, per range
  std::deque<std::int64_t> recorded;           // pieces that this rank had there and has not claimed yet
  BucketHooks hooks;
  JobRanges ranges;
  StepBook book;

  std::optional<std::int64_t> current, next;   // pieces: this rank computes, and will compute then
  std::int64_t part = 0;                       // of the current one: this is computed
  bool open = false;                           // and has neither been counted nor left out
  bool has_read = false;                       // what the current or next one is computed on
  double read_seconds = 0;                     // before the current one, which no push did
  bool over = false;                           // all steps are done and all ranks have met
  std::vector<std::uint32_t> copies;           // per range: the version that this rank has
  std::vector<std::uint32_t> shown;            // on a device: the versions that the model has
  std::vector<std::uint32_t> computed_on;      // per range: what the current piece was computed on
  double nominal_weight = 1;
  StepReport report;                           // of the current piece as far as it is computed
  StepReport counted;                          // the same without the part that is open
  std::vector<at::Tensor> earlier;             // per flat: gradients of the parts before; empty where there is one part
  std::uint32_t updates_seen = 0;              // on a server
  double waited = 0;                           // seconds for others, since the last record
  StopReason stop = StopReason::none;          // asked for by this rank since all met
  bool save = false;
  std::string told;                            // on rank 0: records since all met, for the others
  std::deque<std::pair<std::string, std::unique_ptr<Work>>> sending;

  Impl(Communicator& messages_in, Communicator& control_in, Arena& arena_in, Optimizer& optimizer, std::vector<at::Tensor> common,
       const Schedule& schedule_in, StepPlan plan_in, AsyncOptions options_in, const Clock& clock_in)
      : messages(messages_in), control(control_in), arena(arena_in), model(options_in.model != nullptr ? *options_in.model : arena_in), plan(plan_in), options(std::move(options_in)), schedule(schedule_in), clock(clock_in),
        rank(control_in.rank()), size(control_in.size()), workers(async_workers(size, static_cast<int>(std::set(options.hosts.begin(), options.hosts.end()).size()), options.servers)),
        pieces_per_step(options.pieces_per_step > 0 && options.staleness != 0 ? options.pieces_per_step : workers),
        staleness(options.staleness.value_or(bound_for(kLeastSpeedRatio))), hooks(model, [](int) {}),
        ranges(control_in, arena_in, optimizer, common, schedule_in,
               {options.node, options.hosts, size - workers, static_cast<int>(pieces_per_step), options.staleness == 0, options.staleness_power, options.clip_value,
                repeat_recorded()}, clock_in),
        book(plan_in, schedule_in, {size, static_cast<int>(pieces_per_step), options.staleness_power, options.first_step}),
        copies(arena_in.buckets().size(), 0), shown(copies) {
    if (size > 1 && !options.node) throw Error("asynchronous steps need ranks that share memory");
    if (rank == 0 && options.record) options.record(attempt_line(options.first_step, cut()));
    for (const auto& flat : arena.flats()) {   // of this rank alone, as what arena.like() makes is not
      if (options.local_steps > 1) earlier.push_back(flat.gradients.defined() ? torch::zeros_like(flat.gradients, torch::MemoryFormat::Contiguous) : at::Tensor());
    }
    over = options.first_step >= plan.total_steps;
    for (std::size_t f = 0; on_device() && f < arena.flats().size(); ++f) at::Tensor(arena.flats()[f].values).copy_(model.flats()[f].values);
    ranges.publish(options.first_step, next_meeting(options.first_step));
  }

  std::int64_t bound_for(double speed_ratio) const {
    return std::max<std::int64_t>(1, (workers - 1) * std::llround(std::ceil(std::clamp(speed_ratio, kLeastSpeedRatio, kMostSpeedRatio))));
  }
  UpdatePlan cut() const {
    return {size, static_cast<int>(pieces_per_step), static_cast<int>(arena.buckets().size()), static_cast<int>(options.local_steps)};
  }
  bool on_device() const { return &model != &arena; }
  void show_model();
  StepPart read_report(const StepReport& report, double& start);
  const std::vector<RangeScript>* repeat_recorded();
  std::int64_t next_meeting(std::int64_t step) const;
  std::optional<std::int64_t> claim();
  Piece piece_of(std::int64_t number) const;
  Piece part_of(std::int64_t number, std::int64_t index) const;
  void local_step();
  GradientTurn::Options turn_options(std::optional<std::int64_t> reads_for);
  void read();
  double clip_sum();
  double clip(double weight);
  void push(bool left_out);
  void send(const PieceRecord& record);
  void note(const std::string& bytes);
  void collect(std::int64_t until_pieces);
  void serve();
  void meet(StepFacts& facts);
};

AsyncStrategy::AsyncStrategy(Communicator& messages, Communicator& control, Arena& arena, Optimizer& optimizer, std::vector<at::Tensor> common,
                             Schedule schedule, StepPlan plan, AsyncOptions options, const Clock& clock)
    : impl_(std::make_unique<Impl>(messages, control, arena, optimizer, std::move(common), schedule, plan, std::move(options), clock)) {}
AsyncStrategy::~AsyncStrategy() = default;

/// Null in a run of its own.
const std::vector<RangeScript>* AsyncStrategy::Impl::repeat_recorded() {
  if (!options.repeat) return nullptr;
  require_same_run(*options.repeat, cut(), workers, plan);
  agree(control, [&] { options.repeat = std::make_shared<RecordedUpdates>(options.repeat->from(options.first_step)); });
  scripts = options.repeat->scripts();
  for (const auto& [number, record] : options.repeat->pieces) {
    if (record.rank == rank) recorded.push_back(number);
  }
  return &scripts;
}

/// After how many steps all meet, when they have met after `step`.
std::int64_t AsyncStrategy::Impl::next_meeting(std::int64_t step) const {
  if (options.repeat) {
    const auto next_one = options.repeat->meetings.upper_bound(step);
    return next_one == options.repeat->meetings.end() ? plan.total_steps : *next_one;
  }
  const auto record_bytes = std::ssize(PieceRecord{.read = copies, .applied = copies}.encode());
  const std::int64_t most = std::clamp<std::int64_t>(kMostTold / (pieces_per_step * record_bytes), 1, kMostStepsApart);
  const std::int64_t last = std::min(plan.total_steps, step + most);
  for (++step; step < last; ++step) {
    if (step % plan.steps_per_epoch() == 0 || (options.meet_after && options.meet_after(step))) return step;
  }
  return last;
}

std::optional<std::int64_t> AsyncStrategy::Impl::claim() {
  if (rank >= workers) return std::nullopt;
  if (!options.repeat) return ranges.claim();
  if (recorded.empty() || recorded.front() >= ranges.end_step() * pieces_per_step) return std::nullopt;
  const std::int64_t piece = recorded.front();
  recorded.pop_front();
  return piece;
}

Piece AsyncStrategy::Impl::piece_of(std::int64_t number) const {
  return equal_share(plan.global_piece(number / pieces_per_step), static_cast<int>(number % pieces_per_step), static_cast<int>(pieces_per_step));
}

Piece AsyncStrategy::Impl::part_of(std::int64_t number, std::int64_t index) const {
  Piece piece = piece_of(number);
  const std::int64_t begin = piece.begin, count = piece.size();
  piece.begin = begin + count * index / options.local_steps;
  piece.end = begin + count * (index + 1) / options.local_steps;
  return piece;
}

std::optional<Piece> AsyncStrategy::next_piece() {
  Impl& self = *impl_;
  if (self.open) self.push(true);   // nobody wants to try it again
  if (self.over) return std::nullopt;
  if (self.part > 0) return self.part_of(*self.current, self.part);
  self.current = self.next ? self.next : self.claim();
  self.next = self.current ? self.claim() : std::nullopt;
  if (self.current) return self.part_of(*self.current, 0);
  Piece none = self.plan.global_piece(self.ranges.end_step() - 1);   // until all meet
  none.begin = none.end = none.global_end;
  return none;
}

std::optional<Piece> AsyncStrategy::upcoming(const Piece& /*piece*/) const {
  const Impl& self = *impl_;
  if (self.current && self.part + 1 < self.options.local_steps) return self.part_of(*self.current, self.part + 1);
  return self.next ? std::optional(self.part_of(*self.next, 0)) : std::nullopt;
}

void AsyncStrategy::begin_step(int backwards, double nominal_weight) {
  Impl& self = *impl_;
  if (!self.current) return;
  const double begun = self.clock.seconds();
  if (!self.has_read) self.read();
  self.read_seconds += self.clock.seconds() - begun;
  self.open = true;
  if (self.part == 0) self.computed_on = self.copies;
  self.nominal_weight = nominal_weight;
  self.model.rebind_values();
  self.hooks.arm(backwards);
}

/// This rank's copy, which may have changed, is what the model computes on.
void AsyncStrategy::Impl::show_model() {
  if (!on_device() || shown == copies) return;
  const torch::NoGradGuard no_grad;
  for (std::size_t f = 0; f < arena.flats().size(); ++f) at::Tensor(model.flats()[f].values).copy_(arena.flats()[f].values);
  shown = copies;
}

/// The gradients are then in the arena. On a device the host waits until they have been computed, from when on (`start`) it is communication.
StepPart AsyncStrategy::Impl::read_report(const StepReport& report, double& start) {
  const std::int64_t samples = part_of(*current, part).size();
  if (!on_device()) {
    hooks.finish();
    return {report, samples, hooks.finite()};
  }
  StepPart read = read_part(report, samples, model, {}, [this] { hooks.finish(); }, clock, start);
  for (std::size_t f = 0; read.finite && f < arena.flats().size(); ++f) {
    const at::Tensor& gradients = model.flats()[f].gradients;
    if (gradients.defined()) at::Tensor(arena.flats()[f].gradients).copy_(gradients);
  }
  return read;
}

StepFacts AsyncStrategy::finish_step(const StepReport& reported) {
  Impl& self = *impl_;
  double start = self.clock.seconds();
  const StepPart computed = self.current ? self.read_report(reported, start) : StepPart{reported};
  const StepReport& report = computed.report;
  StepFacts facts;
  facts.alone = true;
  facts.settled = false;
  facts.data_seconds = report.data_seconds;
  facts.compute_seconds = report.compute_seconds;
  self.stop = std::max(self.stop, report.stop);
  self.save = self.save || report.save;
  if ((self.stop != StopReason::none || self.save) && !self.options.repeat) self.ranges.close();
  if (self.current) {
    self.report = self.part == 0 ? report : sum_of(self.counted, report);
    const bool last = self.part + 1 == self.options.local_steps;
    facts.finite = std::isfinite(report.loss_sum) && computed.finite;
    if (facts.finite && last) facts.finite = std::isfinite(self.clip_sum());
    if (!std::isfinite(report.loss_sum)) facts.nonfinite_rank = self.rank;
    if (!facts.finite) return facts;
    if (!last) {
      const double begun = self.clock.seconds();
      self.local_step();
      facts.optimizer_seconds = self.clock.seconds() - begun;
      self.show_model();
      facts.exposed_seconds = self.clock.seconds() - start - facts.optimizer_seconds;
      return facts;
    }
    self.push(false);
  }
  if (self.rank == 0) self.collect(0);
  facts.steps = self.book.take_finished(self.staleness);
  const auto spent = self.ranges.take_spent();
  double pushed = self.clock.seconds();
  if (!self.next) {
    self.meet(facts);
    const double met = self.clock.seconds();
    self.show_model();
    pushed += self.clock.seconds() - met;   // no waiting
  }
  facts.bytes_sent = spent.bytes;
  facts.optimizer_seconds = spent.apply_seconds;
  facts.exposed_seconds = std::max(0.0, std::exchange(self.read_seconds, 0) + pushed - start - spent.wait_seconds - spent.apply_seconds);
  facts.wait_seconds = spent.wait_seconds + self.clock.seconds() - pushed;
  if (self.rank >= self.workers) {   // its thread serves while it waits
    facts.optimizer_seconds += spent.serve_seconds;
    facts.wait_seconds -= spent.serve_seconds;
  }
  self.waited += facts.wait_seconds;
  return facts;
}

GradientTurn::Options AsyncStrategy::Impl::turn_options(std::optional<std::int64_t> reads_for) {
  GradientTurn::Options turn;
  turn.worker = rank;
  turn.first_range = ranges.num_ranges() * rank / workers;   // workers do not queue for the same ones
  turn.staleness = static_cast<int>(staleness);
  turn.reads = reads_for.has_value();
  turn.far = ranges.far();
  if (options.repeat) {
    turn.repeated.scripts = &scripts;
    if (reads_for) turn.repeated.versions = &options.repeat->pieces.at(*reads_for).read;
  }
  return turn;
}

void AsyncStrategy::Impl::read() {
  GradientTurn turn(ranges.here(), copies, turn_options(current));
  ranges.run(turn);
  show_model();
  has_read = true;
}

/// Goes on from where the part that has been computed leads, which nobody else sees.
void AsyncStrategy::Impl::local_step() {
  const torch::NoGradGuard no_grad;
  const double lr = schedule.lr(piece_of(*current).step);
  for (std::size_t f = 0; f < earlier.size(); ++f) {
    const at::Tensor& gradients = arena.flats()[f].gradients;
    if (!gradients.defined()) continue;
    part == 0 ? earlier[f].copy_(gradients) : earlier[f].add_(gradients);
    at::Tensor(arena.flats()[f].values).narrow(0, 0, gradients.numel()).sub_(gradients, lr);   // frozen ones come last
  }
  std::fill(copies.begin(), copies.end(), kOwn);
  shown.clear();   // what the model has is of its own too, and older
  counted = report;
  ++part;
  open = false;
}

/// Adds the parts before to the last one's gradient, and clips the sum. Returns its norm.
double AsyncStrategy::Impl::clip_sum() {
  const torch::NoGradGuard no_grad;
  for (std::size_t f = 0; f < earlier.size(); ++f) {
    const at::Tensor& gradients = arena.flats()[f].gradients;
    if (gradients.defined() && part > 0) at::Tensor(gradients).add_(earlier[f]);
  }
  return clip(report.weight);
}

/// Of the mean over the piece's samples; 0 when nobody clips.
double AsyncStrategy::Impl::clip(double weight) {
  if (options.clip_norm <= 0 || weight <= 0) return 0;
  std::vector<Range> all;
  for (const auto& bucket : arena.buckets()) all.push_back(bucket.range);
  const double norm = std::sqrt(squared_norm(arena, all)) * nominal_weight / weight;
  const double factor = clip_factor(norm, options.clip_norm);
  if (!(factor < 1) || !std::isfinite(norm)) return norm;
  const torch::NoGradGuard no_grad;
  for (const Range& range : all) arena.gradients(range).mul_(factor);
  return norm;
}

void AsyncStrategy::Impl::push(bool left_out) {
  const Piece piece = piece_of(*current);
  GradientTurn::Options turn_of = turn_options(next);
  if (options.repeat) turn_of.repeated.applied = &options.repeat->pieces.at(*current).applied;
  turn_of.dropped = left_out;
  if (options.repeat) {
    const PieceRecord& then = options.repeat->pieces.at(*current);
    if (left_out && !then.dropped) throw Error(fmt::format("step {}: a gradient is not finite here, and was in the run that this one repeats", piece.step + 1));
    turn_of.dropped = then.dropped;
    turn_of.staleness = then.applied.front() > 0 ? 0 : 1;   // its step waited for what was left out, or did not
  }
  const Push push{.piece = *current, .step = piece.step, .samples = piece.size(), .step_samples = piece.global_size(), .weight = report.weight,
                  .nominal_weight = nominal_weight};
  GradientTurn turn(ranges.here(), copies, push, turn_of);
  ranges.run(turn);
  show_model();
  open = false;
  part = 0;
  has_read = turn_of.reads;
  PieceRecord record{.piece = *current, .rank = rank, .samples = piece.size(), .dropped = turn_of.dropped, .waited_seconds = std::exchange(waited, 0), .report = report, .read = computed_on,
                     .applied = turn.applied()};
  if (record.dropped && turn_of.staleness != 0) record.applied.assign(record.applied.size(), 0);   // its step did not wait for it
  send(record);
}

/// To rank 0, which keeps the books.
void AsyncStrategy::Impl::send(const PieceRecord& record) {
  if (rank == 0) return note(record.encode());
  sending.emplace_back(record.encode(), nullptr);
  auto& [bytes, work] = sending.back();
  work = messages.start_send(bytes.data(), static_cast<std::int64_t>(bytes.size()), 0, kRecordTag);
  while (!sending.empty() && sending.front().second->test()) sending.pop_front();
}

void AsyncStrategy::Impl::note(const std::string& bytes) {
  const PieceRecord record = PieceRecord::decode(bytes);
  book.add(record);
  if (options.record) options.record(piece_line(record));
  told += bytes;
}

/// On rank 0: what has arrived, and more until there are so many.
void AsyncStrategy::Impl::collect(std::int64_t until_pieces) {
  for (;;) {
    const auto incoming = messages.probe(-1, kRecordTag);
    if (!incoming) {
      if (book.pieces() >= until_pieces) return;
      sched_yield();
      continue;
    }
    std::string bytes(static_cast<std::size_t>(incoming->bytes), '\0');
    messages.receive(bytes.data(), incoming->bytes, incoming->from, kRecordTag);
    note(bytes);
  }
}

/// A moment of a server's long wait, in which the core is left to the thread that serves.
void AsyncStrategy::Impl::serve() {
  ranges.check();
  const std::uint32_t updates = ranges.updates();
  const bool updated = updates != std::exchange(updates_seen, updates);
  if (options.serving && options.serving(updated) && !options.repeat) ranges.close();
  std::this_thread::sleep_for(kServerNap);
}

/// Everything is applied, all ranks know all steps and hold the same parameters. Collective.
void AsyncStrategy::Impl::meet(StepFacts& facts) {
  struct Request {
    double stop, save;
  };
  const Request mine{static_cast<double>(stop), static_cast<double>(save)};
  std::vector<Request> all(static_cast<std::size_t>(size));
  const auto gathered = control.start_all_gather(&mine, sizeof mine, all.data());
  while (rank >= workers && !gathered->test()) serve();
  gathered->wait();   // from here on nobody works
  for (const Request& request : all) {
    facts.stop = std::max(facts.stop, static_cast<StopReason>(request.stop));
    facts.save = facts.save || request.save != 0;
  }
  const std::int64_t step = ranges.end_step();
  if (rank == 0) collect(step * pieces_per_step);
  const std::string records = control.broadcast(told, 0);
  const std::size_t length = PieceRecord{.read = copies, .applied = copies}.encode().size();
  for (std::size_t at = 0; at < records.size() && rank != 0; at += length) book.add(PieceRecord::decode(records.substr(at, length)));
  for (auto& finished : book.take_finished(staleness)) facts.steps.push_back(std::move(finished));
  if (!options.staleness) staleness = bound_for(book.take_speed_ratio());
  sending.clear();
  told.clear();
  ranges.fetch(copies);
  facts.settled = true;
  stop = StopReason::none;
  save = false;
  over = step >= plan.total_steps;
  control.barrier();   // all have read
  if (rank == 0 && options.record) options.record(meeting_line(step));
  ranges.open(step, next_meeting(step));
}

}  // namespace tugline
