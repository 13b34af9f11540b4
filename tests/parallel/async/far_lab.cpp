// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/parallel/async/far_lab.hpp"

#include <algorithm>

namespace tugline {
namespace {

/// What piece number p moves element k of a range by: sums are exact, in whatever order.
double gradient_of(std::int64_t piece, std::size_t element) { return static_cast<double>(piece + 1) * static_cast<double>(element % 7 + 1); }

std::vector<std::uint64_t> words(std::size_t bytes) { return std::vector<std::uint64_t>((bytes + 7) / 8, 0); }

}  // namespace

FarLab::FarLab(FarJob job, std::uint64_t seed_in)
    : seed(seed_in), job_(std::move(job)), memory_(job_.host_of.size()), cursor_memory_(words(PieceCursor::bytes(job_.workers()))),
      cursor_(cursor_memory_.data(), job_.workers(), job_.pieces_per_step, job_.staleness == 0) {
  const auto ranges = static_cast<std::size_t>(job_.ranges);
  for (int r = 0; r < job_.ranges; ++r) {
    Range& range = ranges_.emplace_back();
    range.memory = words(RangeLedger::bytes(job_.workers()));
    range.ledger.emplace(range.memory.data(), job_.workers(), job_.pieces_per_step);
    range.values.assign(job_.elements, 0);
    range.history.push_back(0);
    range.times_applied.assign(static_cast<std::size_t>(job_.pieces()), 0);
  }
  for (int w = 0; w < job_.workers(); ++w) {
    views_.emplace_back(*this, w);
    Memory& memory = of(w);
    memory.gradients.assign(ranges, std::vector<double>(job_.elements));
    memory.copies = memory.inboxes = memory.gradients;
    memory.computed_on.assign(ranges, 0);
  }
  record.of_worker.resize(memory_.size());
  record.updates.resize(ranges);
  if (job_.repeat != nullptr) write_scripts();
  open();
}

void FarLab::write_scripts() {
  for (std::size_t r = 0; r < ranges_.size(); ++r) {
    const std::size_t versions = job_.repeat->updates[r].size();
    RangeScript script{std::vector<int>(versions, 0), std::vector<int>(versions + 1, 0)};
    for (const auto& pieces : job_.repeat->of_worker) {
      for (const auto& piece : pieces) {
        ++script.readers[piece.read[r]];
        if (piece.applied[r] > 0) ++script.pushes[piece.applied[r] - 1];
      }
    }
    scripts.push_back(std::move(script));
  }
}

int FarLab::first_worker(int host) const {
  return static_cast<int>(std::find(job_.host_of.begin(), job_.host_of.end(), host) - job_.host_of.begin());
}

RangeDesk::Options FarLab::desk_options(int host) {
  RangeDesk::Options options;
  options.inbox = [this](int worker, int range) { return std::as_writable_bytes(std::span(of(worker).inboxes[static_cast<std::size_t>(range)])); };
  options.values = [this](int range) { return std::as_bytes(std::span(at(range).values)); };
  options.scripts = job_.repeat != nullptr ? &scripts : nullptr;
  if (host == 0) options.cursor = {[this](int worker) { return claim(worker); }, [this] { close(); }, [this] { return end_step(); }};
  return options;
}

std::unique_ptr<FarRanges> FarLab::make_far(Communicator& channel, int worker) {
  std::vector<int> servers;
  for (int range = 0; range < job_.ranges; ++range) {
    const int host = owner(range);
    servers.push_back(host == job_.host_of[static_cast<std::size_t>(worker)] ? -1 : first_worker(host));
  }
  return std::make_unique<FarRanges>(
      channel, servers,
      FarRanges::Memory{[this, worker](int range) { return std::as_bytes(std::span(of(worker).gradients[static_cast<std::size_t>(range)])); },
                        [this, worker](int range) { return std::as_writable_bytes(std::span(of(worker).copies[static_cast<std::size_t>(range)])); }});
}

std::optional<std::int64_t> FarLab::claim(int worker) {
  const std::lock_guard<std::mutex> lock(cursor_mutex_);
  return cursor_.claim(worker);
}
void FarLab::close() {
  const std::lock_guard<std::mutex> lock(cursor_mutex_);
  cursor_.close();
}
std::int64_t FarLab::end_step() {
  const std::lock_guard<std::mutex> lock(cursor_mutex_);
  return cursor_.end() / job_.pieces_per_step;
}

void FarLab::open() {
  const std::size_t meeting = record.meetings.size();
  cursor_.open(step_, job_.repeat != nullptr ? job_.repeat->meetings[meeting] : std::min(job_.steps, (step_ / job_.epoch + 1) * job_.epoch));
  for (Range& range : ranges_) range.ledger->begin_at(step_ * job_.pieces_per_step);
}

void FarLab::apply(int r, const RangeUpdate& update) {
  Range& range = at(r);
  auto& pieces = record.updates[static_cast<std::size_t>(r)].emplace_back();
  for (const auto& [worker, push, version_read, staleness] : update.pushes) {
    Memory& memory = of(worker);
    const auto index = static_cast<std::size_t>(r);
    check(version_read == memory.computed_on[index], "a gradient was computed on another version than was registered");
    check(staleness <= static_cast<std::uint32_t>(job_.staleness), "staler than the bound");
    check(++range.times_applied[static_cast<std::size_t>(push.piece)] == 1, "a piece was applied twice");
    check(push.left_out == (job_.dropped.count(push.piece) != 0), "a gradient was dropped, or was not");
    range.most_stale = std::max(range.most_stale, staleness);
    pieces.push_back(push.piece);
    if (push.left_out) continue;
    const bool is_far = job_.host_of[static_cast<std::size_t>(worker)] != owner(r);
    const auto& gradient = (is_far ? memory.inboxes : memory.gradients)[index];
    for (std::size_t k = 0; k < gradient.size(); ++k) {
      check(gradient[k] == gradient_of(push.piece, k), "another gradient is applied than was given");
      range.values[k] += gradient[k];
    }
  }
  range.history.push_back(range.values.front());
  check(range.history.size() == update.version + 1, "an update makes another version");
}

void FarLab::check_copy(int worker, int r, std::uint32_t version) {
  Range& range = at(r);
  const auto& copy = of(worker).copies[static_cast<std::size_t>(r)];
  range.mutex.lock();
  const double first = version < range.history.size() ? range.history[version] : -1;
  range.mutex.unlock();
  for (std::size_t k = 0; k < copy.size(); ++k) {
    check(copy[k] == first * static_cast<double>(k % 7 + 1), "a worker's copy is not of the version that it believes");
  }
}

void FarLab::meet() {
  const std::int64_t end = cursor_.end();
  check(end % job_.pieces_per_step == 0 && (job_.repeat != nullptr || cursor_.next() >= end), "all meet within a step");
  for (int r = 0; r < job_.ranges; ++r) {
    Range& range = at(r);
    double sum = 0;
    for (std::int64_t piece = 0; piece < job_.pieces(); ++piece) {
      const bool applied = piece < end && applies(piece);
      check(range.times_applied[static_cast<std::size_t>(piece)] == (applied ? 1 : 0), "a piece was not applied before the meeting");
      if (piece < end && job_.dropped.count(piece) == 0) sum += gradient_of(piece, 0);
    }
    for (std::size_t k = 0; k < range.values.size(); ++k) {
      check(range.values[k] == sum * static_cast<double>(k % 7 + 1), "the values are not the sum of all gradients");
    }
  }
  step_ = end / job_.pieces_per_step;
  record.meetings.push_back(step_);
  if (!over()) return open();
  for (Range& range : ranges_) {
    pushes += std::count(range.times_applied.begin(), range.times_applied.end(), 1);
    most_stale = std::max(most_stale, range.most_stale);
  }
}

void FarLab::check_copies(int worker, const std::vector<std::uint32_t>& copies) {
  for (int r = 0; r < job_.ranges; ++r) {
    check(copies[static_cast<std::size_t>(r)] == at(r).ledger->version(), "a worker has not fetched the newest version");
    check_copy(worker, r, copies[static_cast<std::size_t>(r)]);
  }
}

FarWorker::FarWorker(FarLab& lab, int worker, FarRanges& far, Claim claim, std::function<void()> close)
    : lab_(lab), me_(worker), far_(far), claim_(std::move(claim)), close_(std::move(close)),
      random_(lab.seed * 1000 + static_cast<std::uint64_t>(worker)), copies_(static_cast<std::size_t>(lab.job().ranges), 0) {}

std::optional<std::int64_t> FarWorker::claim() {
  if (lab_.job().repeat == nullptr) return claim_();
  const auto& pieces = lab_.job().repeat->of_worker[static_cast<std::size_t>(me_)];
  if (claimed_ == pieces.size() || pieces[claimed_].piece >= lab_.end_step() * lab_.job().pieces_per_step) return std::nullopt;
  return pieces[claimed_++].piece;
}

bool FarWorker::step() {
  switch (phase_) {
    case Phase::settled: return false;
    case Phase::starting:
      next_ = claim();
      phase_ = Phase::settled;
      if (!next_) return true;
      pushes_ = false;
      turn_.emplace(lab_.access(me_), copies_, options());
      phase_ = Phase::turning;
      return true;
    case Phase::computing:
      if (--left_ <= 0) push();
      return true;
    case Phase::turning: break;
  }
  const bool moved = turn_->advance();
  if (turn_->done()) end_turn();
  return moved;
}

GradientTurn::Options FarWorker::options() {
  const FarJob& job = lab_.job();
  GradientTurn::Options options{.worker = me_, .first_range = job.ranges * me_ / job.workers(), .staleness = job.staleness,
                                .reads = next_.has_value(), .repeated = {}, .far = &far_};
  if (job.repeat == nullptr) return options;
  options.repeated.scripts = &lab_.scripts;
  // The last that was claimed is the one to be computed next.
  if (next_) options.repeated.versions = &job.repeat->of_worker[static_cast<std::size_t>(me_)][claimed_ - 1].read;
  return options;
}

void FarWorker::push() {
  const FarJob& job = lab_.job();
  if (before_push) before_push(*current_);
  for (auto& gradient : lab_.of(me_).gradients) {
    for (std::size_t k = 0; k < gradient.size(); ++k) gradient[k] = gradient_of(*current_, k);
  }
  if (close_ && job.repeat == nullptr && std::bernoulli_distribution(job.close)(random_)) close_();
  GradientTurn::Options turn = options();
  turn.dropped = job.dropped.count(*current_) != 0;
  if (job.repeat != nullptr) {
    turn.repeated.applied = &job.repeat->of_worker[static_cast<std::size_t>(me_)][claimed_ - (next_ ? 2 : 1)].applied;
  }
  const std::int64_t step = *current_ / job.pieces_per_step;
  const Push push{.piece = *current_, .step = step, .samples = 1, .step_samples = job.pieces_per_step, .weight = 1};
  pushes_ = true;
  turn_.emplace(lab_.access(me_), copies_, push, turn);
  phase_ = Phase::turning;
}

void FarWorker::end_turn() {
  FarLab::Memory& memory = lab_.of(me_);
  if (pushes_) {
    FarRecord::Piece piece{*current_, memory.computed_on, turn_->applied()};
    if (!lab_.applies(*current_)) piece.applied.assign(piece.applied.size(), 0);
    for (std::size_t r = 0; r < piece.applied.size(); ++r) lab_.check(piece.applied[r] != 0 || !lab_.applies(*current_), "applied nowhere");
    lab_.record.of_worker[static_cast<std::size_t>(me_)].push_back(std::move(piece));
  }
  current_ = next_;
  phase_ = Phase::settled;
  if (!current_) return;
  for (int r = 0; r < lab_.job().ranges; ++r) lab_.check_copy(me_, r, copies_[static_cast<std::size_t>(r)]);
  memory.computed_on = copies_;
  next_ = claim();
  left_ = std::uniform_int_distribution<std::int64_t>(0, lab_.job().most_computing)(random_);
  phase_ = Phase::computing;
}

}  // namespace tugline
