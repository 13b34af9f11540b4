// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/parallel/async/simulator.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tugline {

std::int64_t Job::samples_of(std::int64_t step) const {
  const auto first = samples.begin() + step * pieces_per_step;
  return std::accumulate(first, first + pieces_per_step, std::int64_t{0});
}

double Job::kept(std::int64_t piece) const {
  const auto p = static_cast<std::size_t>(piece);
  return dropped[p] != 0 ? 0 : static_cast<double>(samples[p]) / static_cast<double>(samples_of(piece / pieces_per_step));
}

Job& Job::cut(std::mt19937_64& random, double empty, double drop) {
  for (std::int64_t piece = 0; piece < num_pieces(); ++piece) {
    const bool last = (piece + 1) % pieces_per_step == 0;   // no step without samples
    samples.push_back(!last && std::bernoulli_distribution(empty)(random) ? 0 : 1 + static_cast<std::int64_t>(random() % 97));
    dropped.push_back(static_cast<char>(std::bernoulli_distribution(drop)(random)));
  }
  return *this;
}

Simulator::Turn& Simulator::Turn::operator=(const Turn& other) {
  reset();
  if (other.has_value()) emplace(*other);
  return *this;
}

Simulator::Simulator(Job job, const Record* repeat) : job_(std::move(job)), repeat_(repeat) {
  const auto num_ranges = static_cast<std::size_t>(job_.ranges), pieces = static_cast<std::size_t>(job_.num_pieces());
  const std::size_t words = RangeLedger::bytes(job_.workers) / sizeof(std::uint64_t);
  now_.memory.assign(num_ranges * words + PieceCursor::bytes(job_.workers) / sizeof(std::uint64_t), 0);
  for (std::size_t r = 0; r < num_ranges; ++r) ledgers_.emplace_back(&now_.memory[r * words], job_.workers, job_.pieces_per_step);
  cursor_.emplace(&now_.memory[num_ranges * words], job_.workers, job_.pieces_per_step, job_.staleness == 0);
  Worker worker;
  worker.copies = worker.data = worker.computed_on = std::vector<std::uint32_t>(num_ranges, 0);
  worker.registered.assign(num_ranges, -1);
  now_.workers.assign(static_cast<std::size_t>(job_.workers), worker);
  now_.ranges.resize(num_ranges);
  for (Range& range : now_.ranges) range.times_applied.assign(pieces, 0);
  now_.times_claimed.assign(pieces, 0);
  record_.of_worker.resize(now_.workers.size());
  record_.updates.resize(num_ranges);
  if (repeat_ != nullptr) write_scripts();
  open(0);
}

/// Thrown by step(), since ranges are unlocked while the stack unwinds.
void Simulator::check(bool good, const char* what) {
  if (!good && broken_.empty()) broken_ = what;
}

void Simulator::write_scripts() {
  for (std::size_t r = 0; r < ledgers_.size(); ++r) {
    const std::size_t versions = repeat_->updates[r].size();
    RangeScript script{std::vector<int>(versions, 0), std::vector<int>(versions + 1, 0)};
    for (const auto& pieces : repeat_->of_worker) {
      for (const Record::Piece& piece : pieces) {
        ++script.readers[piece.read[r]];
        if (piece.applied[r] > 0) ++script.pushes[piece.applied[r] - 1];
      }
    }
    scripts_.push_back(std::move(script));
  }
}

std::int64_t Simulator::given() const {
  return std::accumulate(now_.workers.begin(), now_.workers.end(), std::int64_t{0}, [](std::int64_t sum, const Worker& w) { return sum + w.given; });
}

bool Simulator::step(int worker) {
  current_ = worker;
  Worker& me = of(worker);
  bool moved = true;
  switch (me.phase) {
    case Phase::settled: return false;
    case Phase::starting:
      me.piece = claim(worker);
      me.phase = Phase::settled;
      if (me.piece >= 0) begin_turn(worker, false);
      break;
    case Phase::reserving:
      check(me.data == me.copies, "a worker's copies are not of the versions that it believes");
      me.computed_on = me.data;
      me.next = claim(worker);
      me.phase = Phase::computing;
      break;
    case Phase::computing: begin_turn(worker, true); break;
    case Phase::turning: moved = advance(worker); break;
  }
  if (std::all_of(now_.workers.begin(), now_.workers.end(), [](const Worker& w) { return w.phase == Phase::settled; })) meet();
  if (!broken_.empty()) throw Broken(broken_);
  return moved;
}

std::int64_t Simulator::claim(int worker) {
  std::int64_t& claimed = of(worker).claimed;
  std::int64_t piece = -1;
  if (repeat_ == nullptr) {
    piece = cursor_->claim(worker).value_or(-1);
  } else if (const auto& pieces = repeat_->of_worker[static_cast<std::size_t>(worker)]; claimed < std::ssize(pieces)) {
    piece = pieces[static_cast<std::size_t>(claimed)].piece;
    if (piece >= cursor_->end()) piece = -1;
  }
  if (piece < 0) return piece;
  ++claimed;
  check(piece < job_.num_pieces(), "a piece that does not exist was handed out");
  if (piece < job_.num_pieces()) check(++now_.times_claimed[static_cast<std::size_t>(piece)] == 1, "a piece was handed out twice");
  return piece;
}

void Simulator::begin_turn(int worker, bool pushes) {
  Worker& me = of(worker);
  GradientTurn::Options options{.worker = worker, .first_range = first_range(worker), .staleness = job_.staleness,
                                .dropped = is_dropped(me.piece), .reads = !pushes || me.next >= 0, .repeated = {}};
  if (repeat_ != nullptr) {
    options.repeated.scripts = &scripts_;
    // The last that was claimed is the one to be computed next.
    const Record::Piece* claimed = &repeat_->of_worker[static_cast<std::size_t>(worker)][static_cast<std::size_t>(me.claimed - 1)];
    if (options.reads) options.repeated.versions = &claimed->read;
    if (pushes) options.repeated.applied = &(options.reads ? claimed - 1 : claimed)->applied;
  }
  me.turn.reset();
  if (pushes) {
    const std::int64_t step = me.piece / job_.pieces_per_step, samples = job_.samples[static_cast<std::size_t>(me.piece)];
    me.turn.emplace(*this, me.copies, Push{me.piece, step, samples, job_.samples_of(step), static_cast<double>(samples), 1}, options);
    ++me.given;
  } else {
    me.turn.emplace(*this, me.copies, options);
  }
  me.pushes = pushes;
  me.has_waited = false;
  me.moves = 0;
  me.phase = Phase::turning;
}

bool Simulator::advance(int worker) {
  Worker& me = of(worker);
  if (!me.turn->advance()) {
    const auto [range, wanted] = me.turn->blocked_on();
    check(!me.turn->done() && range == touched_ && wanted > version(range), "a worker waits for nothing");
    if (!me.has_waited) ++waits_;
    me.has_waited = true;
    return false;
  }
  const int ranges = job_.ranges, phase = me.moves++ / ranges + (me.pushes ? 0 : 2);   // gives, waits, reads
  if (phase == 0) me.registered[static_cast<std::size_t>(touched_)] = -1;
  if (phase == 2) me.registered[static_cast<std::size_t>(touched_)] = version(touched_);
  if (repeat_ == nullptr) check_held(touched_);
  if (me.turn->done()) end_turn(worker);
  return true;
}

/// Nothing waits longer than the bound demands.
void Simulator::check_held(int range) {
  int waiting = 0;
  bool held = false;
  for (int w = 0; w < job_.workers; ++w) {
    const std::int64_t registered = of(w).registered[static_cast<std::size_t>(range)];
    waiting += ledger(range).waits(w) ? 1 : 0;
    held = held || (registered >= 0 && version(range) + 1 - registered > job_.staleness);
  }
  check(waiting == 0 || (job_.staleness == 0 ? waiting < job_.pieces_per_step : held), "gradients wait that could be applied");
}

void Simulator::end_turn(int worker) {
  Worker& me = of(worker);
  me.phase = Phase::reserving;
  if (!me.pushes) return;
  if (recording) {
    Record::Piece piece{me.piece, me.computed_on, me.turn->applied()};
    if (!applies(me.piece)) piece.applied.assign(piece.applied.size(), 0);
    record_.of_worker[static_cast<std::size_t>(worker)].push_back(std::move(piece));
  }
  me.piece = me.next;
  if (me.piece < 0) me.phase = Phase::settled;
}

void Simulator::open(std::int64_t step) {
  const std::size_t meeting = record_.meetings.size();
  cursor_->open(step, repeat_ != nullptr ? repeat_->meetings[meeting] : std::min(job_.steps, (step / job_.epoch + 1) * job_.epoch));
}

void Simulator::meet() {
  const std::int64_t end = cursor_->end();
  check(end % job_.pieces_per_step == 0 && (repeat_ != nullptr || cursor_->next() == end), "all meet within a step");
  for (std::int64_t p = 0; p < job_.num_pieces(); ++p) {
    check(now_.times_claimed[static_cast<std::size_t>(p)] == (p < end ? 1 : 0), "a piece was not handed out before the meeting");
  }
  for (int r = 0; r < job_.ranges; ++r) {
    Range& range = now_.ranges[static_cast<std::size_t>(r)];
    for (int w = 0; w < job_.workers; ++w) check(!ledger(r).waits(w), "a gradient waits though all have met");
    for (std::int64_t p = 0; p < end; ++p) {
      check(range.times_applied[static_cast<std::size_t>(p)] == (applies(p) ? 1 : 0), "a piece was not applied before the meeting");
    }
    ledger(r).begin_at(end);
    range.done = end;
  }
  record_.meetings.push_back(end / job_.pieces_per_step);
  now_.over = end == job_.num_pieces();
  if (now_.over) return;
  for (Worker& worker : now_.workers) worker.phase = Phase::starting;
  open(end / job_.pieces_per_step);
}

void Simulator::lock(int range) {
  check(locked_ == -1, "two ranges are locked at once");
  locked_ = touched_ = range;
}

void Simulator::unlock(int range) {
  check(locked_ == range, "a range is unlocked that is not locked");
  locked_ = -1;
}

void Simulator::copy_out(int range) {
  check(locked_ == range, "a range is copied that is not locked");
  auto& copy = of(current_).data[static_cast<std::size_t>(range)];
  check(copy != version(range), "a range is copied in vain");
  copy = version(range);
}

void Simulator::apply(int r, const RangeUpdate& update, bool brings) {
  if (!broken_.empty()) throw Broken(broken_);   // it might be called for ever
  const auto index = static_cast<std::size_t>(r);
  Range& range = now_.ranges[index];
  check(locked_ == r, "a range is updated that is not locked");
  check(!update.pushes.empty() && update.version == version(r) + 1, "an update of nothing, or to another version");
  check(job_.staleness > 0 || std::ssize(update.pushes) == job_.pieces_per_step, "with a bound of 0 an update is less than a step");
  double fraction = 0;
  std::uint32_t oldest = 0;
  std::int64_t last = -1;
  for (const auto& [w, push, version_read, staleness] : update.pushes) {
    const Worker& pusher = of(w);
    check(push.piece == pusher.piece && push.piece > last, "the gradients of an update are not those given, in the order of pieces");
    last = push.piece;
    const bool dropped = is_dropped(push.piece);
    const std::int64_t samples = dropped ? 0 : job_.samples[static_cast<std::size_t>(push.piece)];
    check(push.left_out == dropped && push.samples == samples, "a gradient counts for other samples than its piece has");
    check(version_read == pusher.computed_on[index], "a gradient was computed on another version than was registered");
    check(staleness == version(r) - version_read, "the staleness is another");
    check(staleness <= static_cast<std::uint32_t>(job_.staleness), "staler than the bound");
    check(pusher.turn->applied()[index] == update.version, "a gradient went into another update than its worker believes");
    check(++range.times_applied[static_cast<std::size_t>(push.piece)] == 1, "a piece was applied twice");
    oldest = std::max(oldest, staleness);
    fraction += job_.kept(push.piece);
  }
  for (int w = 0; w < job_.workers; ++w) {
    if (!ledger(r).waits(w)) continue;
    check(repeat_ != nullptr && of(w).turn->applied()[index] > update.version, "a gradient that waited was left behind");
    check(w != current_, "who applies gradients adds them up where its own is, which still waits");
  }
  most_stale_ = std::max(most_stale_, oldest);
  range.done += std::ssize(update.pushes);
  ++range.version;
  range.steps += update.fraction;
  pushes_ += std::ssize(update.pushes);
  check(update.number == static_cast<double>(range.done) / job_.pieces_per_step, "the number of steps done is another");
  check(update.staleness == oldest && std::abs(update.fraction - fraction) < 1e-12, "what an update says of itself is wrong");
  if (recording) record_.updates[index].push_back(update);
  if (brings) copy_out(r);
}

void Simulator::restore(const State& state) {
  // Element by element: ledgers and turns refer to them.
  std::copy(state.memory.begin(), state.memory.end(), now_.memory.begin());
  std::copy(state.workers.begin(), state.workers.end(), now_.workers.begin());
  now_.ranges = state.ranges;
  now_.times_claimed = state.times_claimed;
  now_.over = state.over;
}

bool Simulator::is_private(int worker) {
  const Worker& me = of(worker);
  if (me.phase != Phase::turning) return me.phase == Phase::computing;
  const int range = (first_range(worker) + me.moves) % job_.ranges;
  return me.pushes && me.moves / job_.ranges == 1 && !ledger(range).waits(worker);
}

std::string Simulator::key() {
  std::string key;
  const auto add = [&](std::int64_t value) { key.push_back(static_cast<char>(value)); };
  add(cursor_->next());
  add(cursor_->end());
  for (const Range& range : now_.ranges) key.append(range.times_applied.begin(), range.times_applied.end());
  for (int w = 0; w < job_.workers; ++w) {
    const Worker& worker = of(w);
    add(static_cast<char>(worker.phase));
    add(worker.phase == Phase::turning ? 2 * worker.moves + (worker.pushes ? 1 : 0) : 0);
    add(worker.piece);
    add(worker.next);
    for (int r = 0; r < job_.ranges; ++r) {
      const auto index = static_cast<std::size_t>(r);
      const bool waits = ledger(r).waits(w), computes = worker.registered[index] >= 0;
      // A copy that nobody computes on is the newest, or must be made anew.
      add(computes || waits ? version(r) - worker.data[index] : worker.data[index] == version(r) ? -1 : -2);
      add(waits ? -1 : computes ? version(r) - worker.registered[index] : -2);
    }
  }
  return key;
}

}  // namespace tugline
