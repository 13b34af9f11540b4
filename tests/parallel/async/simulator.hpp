// SPDX-License-Identifier: Apache-2.0
// Workers of asynchronous SGD in one thread. Who makes the next step is the test's choice; what must hold at each is checked here.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "tugline/parallel/async/gradient_turn.hpp"
#include "tugline/parallel/async/piece_cursor.hpp"
#include "tugline/parallel/async/range_ledger.hpp"

namespace tugline {

struct Job {
  int workers = 3, ranges = 2, staleness = 1, pieces_per_step = 3;
  std::int64_t steps = 4, epoch = 4;     ///< all meet after each epoch, and where the cursor was closed
  std::vector<std::int64_t> samples{};   ///< per piece
  std::vector<char> dropped{};           ///< per piece
  std::vector<int> first_ranges{};       ///< per worker: where it begins; empty: spread out

  std::int64_t num_pieces() const { return steps * pieces_per_step; }
  std::int64_t samples_of(std::int64_t step) const;
  /// What part of its step reaches the parameters by this piece.
  double kept(std::int64_t piece) const;
  /// `empty` and `drop`: probabilities.
  Job& cut(std::mt19937_64& random, double empty, double drop);
};

/// What a run did.
struct Record {
  struct Piece {
    std::int64_t piece = 0;
    std::vector<std::uint32_t> read, applied;      ///< versions, per range; applied 0: not at all
  };
  std::vector<std::vector<Piece>> of_worker;
  std::vector<std::int64_t> meetings;              ///< steps before each
  std::vector<std::vector<RangeUpdate>> updates;   ///< per range
};

/// Something happened that must not.
struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Simulator : public RangeAccess {
 public:
  enum class Phase : char { starting, turning, reserving, computing, settled };

  explicit Simulator(Job job, const Record* repeat = nullptr);
  Simulator(const Simulator&) = delete;
  Simulator& operator=(const Simulator&) = delete;

  /// One step of a worker. False: it cannot make one before another has. Throws Broken.
  bool step(int worker);
  bool over() const { return now_.over; }
  void close() { cursor_->close(); }

  const Job& job() const { return job_; }
  Phase phase(int worker) const { return of(worker).phase; }
  std::uint32_t version(int range) const { return at(range).version; }
  /// What the worker computes on, if it does.
  std::uint32_t computed_on(int worker, int range) const { return of(worker).computed_on[static_cast<std::size_t>(range)]; }
  /// Pieces whose gradients were given, to some range at least; by a worker, and by all.
  std::int64_t given(int worker) const { return of(worker).given; }
  std::int64_t given() const;
  double steps_done(int range) const { return at(range).steps; }      ///< the fractions of its updates
  std::int64_t waits() const { return waits_; }                       ///< turns that had to wait
  std::int64_t pushes() const { return pushes_; }                     ///< over all ranges
  std::uint32_t most_stale() const { return most_stale_; }
  const Record& record() const { return record_; }

  int num_ranges() const override { return job_.ranges; }
  RangeLedger& ledger(int range) override { return ledgers_[static_cast<std::size_t>(range)]; }
  void lock(int range) override;
  void unlock(int range) override;
  void apply(int range, const RangeUpdate& update, bool brings) override;
  void copy_out(int range) override;

 private:
  /// Refers to what it works on, and so can be copied but not assigned.
  struct Turn : std::optional<GradientTurn> {
    Turn() = default;
    Turn(const Turn&) = default;
    ~Turn() = default;
    Turn& operator=(const Turn& other);
  };
  struct Worker {
    Phase phase = Phase::starting;
    bool pushes = false, has_waited = false;    // in this turn
    int moves = 0;                              // of this turn
    std::int64_t piece = -1, next = -1;
    std::int64_t given = 0, claimed = 0;
    std::vector<std::uint32_t> copies;          // the protocol's
    std::vector<std::uint32_t> data;            // what was copied
    std::vector<std::uint32_t> computed_on;
    std::vector<std::int64_t> registered;       // what it computes on, as was said to the ledger; -1: nothing
    Turn turn;
  };
  struct Range {
    std::uint32_t version = 0;
    std::int64_t done = 0;                      // pieces
    std::vector<char> times_applied;            // per piece
    double steps = 0;
  };

 public:
  /// All that changes, but for the record and the counts. Of use only to the simulator that it is of.
  struct State {
    std::vector<std::uint64_t> memory;          // of the ledgers and the cursor
    std::vector<Worker> workers;
    std::vector<Range> ranges;
    std::vector<char> times_claimed;            // per piece
    bool over = false;
  };
  const State& state() const { return now_; }
  void restore(const State& state);
  /// Equal only where the same can happen from here on: what the ledgers hold beside follows from it.
  std::string key();
  /// The worker can make its next step whatever the others do, and they cannot see it: it need not be tried at any other time.
  bool is_private(int worker);
  bool recording = true;

 private:
  Worker& of(int worker) { return now_.workers[static_cast<std::size_t>(worker)]; }
  const Worker& of(int worker) const { return now_.workers[static_cast<std::size_t>(worker)]; }
  const Range& at(int range) const { return now_.ranges[static_cast<std::size_t>(range)]; }
  int first_range(int worker) const {
    return job_.first_ranges.empty() ? job_.ranges * worker / job_.workers : job_.first_ranges[static_cast<std::size_t>(worker)];
  }
  bool is_dropped(std::int64_t piece) const { return job_.dropped[static_cast<std::size_t>(piece)] != 0; }
  /// With a bound of 0 a step waits for what is dropped, too.
  bool applies(std::int64_t piece) const { return !is_dropped(piece) || job_.staleness == 0; }
  void check(bool good, const char* what);
  void write_scripts();
  std::int64_t claim(int worker);
  void begin_turn(int worker, bool pushes);
  bool advance(int worker);
  void check_held(int range);
  void end_turn(int worker);
  void open(std::int64_t step);
  void meet();

  Job job_;
  const Record* repeat_;
  std::vector<RangeScript> scripts_;
  State now_;
  std::vector<RangeLedger> ledgers_;
  std::optional<PieceCursor> cursor_;
  Record record_;
  std::string broken_;
  int current_ = 0, locked_ = -1, touched_ = -1;
  std::int64_t waits_ = 0, pushes_ = 0;
  std::uint32_t most_stale_ = 0;
};

}  // namespace tugline
