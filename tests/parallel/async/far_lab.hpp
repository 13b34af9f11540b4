// SPDX-License-Identifier: Apache-2.0
// Hosts that are plain memory, and workers on them. What must hold at every update is checked where it is made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <stdexcept>
#include <vector>

#include "tugline/parallel/async/far_ranges.hpp"
#include "tugline/parallel/async/gradient_turn.hpp"
#include "tugline/parallel/async/piece_cursor.hpp"
#include "tugline/parallel/async/range_desk.hpp"

namespace tugline {

class Communicator;

/// Something happened that must not.
struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct FarRecord {
  struct Piece {
    std::int64_t piece = 0;
    std::vector<std::uint32_t> read, applied;   // per range; applied 0: not at all
  };
  std::vector<std::vector<Piece>> of_worker;
  std::vector<std::int64_t> meetings;                        // steps before each
  std::vector<std::vector<std::vector<std::int64_t>>> updates;   // per range, per version: pieces
};

struct FarJob {
  std::vector<int> host_of{0, 1};   // per worker, ascending
  int ranges = 3, staleness = 1, pieces_per_step = 2;
  std::int64_t steps = 10, epoch = 4;
  std::set<std::int64_t> dropped{};
  std::size_t elements = 3;         // of each range
  double close = 0;                 // probability that a worker closes the cursor, per piece
  int most_computing = 20;          // steps
  const FarRecord* repeat = nullptr;

  int workers() const { return static_cast<int>(host_of.size()); }
  int hosts() const { return host_of.back() + 1; }
  std::int64_t pieces() const { return steps * pieces_per_step; }
};

/// All memory of a job. Range r is kept by host r mod hosts.
class FarLab {
 public:
  explicit FarLab(FarJob job, std::uint64_t seed);

  const FarJob& job() const { return job_; }
  int owner(int range) const { return range % job_.hosts(); }
  int first_worker(int host) const;
  /// What a host's desk needs; the cursor is on host 0.
  RangeDesk::Options desk_options(int host);
  /// Ranges as `worker` sees them; its own, and to be used for its host's only.
  RangeAccess& access(int worker) { return views_[static_cast<std::size_t>(worker)]; }
  std::unique_ptr<FarRanges> make_far(Communicator& channel, int worker);

  std::optional<std::int64_t> claim(int worker);
  void close();
  std::int64_t end_step();

  // Nobody works:
  void open();
  bool over() const { return step_ == job_.steps; }
  /// Everything up to the cursor's end is applied once; goes on from there.
  void meet();
  void check_copies(int worker, const std::vector<std::uint32_t>& copies);

  void check(bool good, const char* what) const {
    if (!good) throw Broken(what);
  }
  bool applies(std::int64_t piece) const { return job_.dropped.count(piece) == 0 || job_.staleness == 0; }

  std::uint64_t seed;
  FarRecord record;                 // of_worker is written by each worker, the rest with the range or nobody
  std::vector<RangeScript> scripts; // of the run that is repeated
  std::int64_t pushes = 0;          // over all ranges, once over
  std::uint32_t most_stale = 0;     // once over

 private:
  friend class FarWorker;
  struct Range {
    std::mutex mutex;
    std::vector<std::uint64_t> memory;
    std::optional<RangeLedger> ledger;
    std::vector<double> values;
    std::vector<double> history;                      // first value, per version
    std::vector<char> times_applied;                  // per piece
    std::uint32_t most_stale = 0;
  };
  class View final : public RangeAccess {
   public:
    View(FarLab& lab, int worker) : lab_(lab), worker_(worker) {}
    int num_ranges() const override { return lab_.job_.ranges; }
    RangeLedger& ledger(int range) override { return *lab_.at(range).ledger; }
    void lock(int range) override { lab_.at(range).mutex.lock(); }
    void unlock(int range) override { lab_.at(range).mutex.unlock(); }
    void apply(int range, const RangeUpdate& update, bool brings) override {
      lab_.apply(range, update);
      if (brings) copy_out(range);
    }
    void copy_out(int range) override { lab_.of(worker_).copies[static_cast<std::size_t>(range)] = lab_.at(range).values; }

   private:
    FarLab& lab_;
    int worker_;
  };
  struct Memory {
    std::vector<std::vector<double>> gradients, copies;   // per range
    std::vector<std::vector<double>> inboxes;             // per range, on its owner's host
    std::vector<std::uint32_t> computed_on;               // per range
  };
  Range& at(int range) { return ranges_[static_cast<std::size_t>(range)]; }
  Memory& of(int worker) { return memory_[static_cast<std::size_t>(worker)]; }
  void apply(int range, const RangeUpdate& update);
  void check_copy(int worker, int range, std::uint32_t version);
  void write_scripts();

  FarJob job_;
  std::deque<Range> ranges_;
  std::vector<Memory> memory_;
  std::deque<View> views_;
  std::mutex cursor_mutex_;
  std::vector<std::uint64_t> cursor_memory_;
  PieceCursor cursor_;
  std::int64_t step_ = 0;
};

/// One worker, in steps.
class FarWorker {
 public:
  using Claim = std::function<std::optional<std::int64_t>()>;
  /// `claim` in a run of its own, `close` at random moments.
  FarWorker(FarLab& lab, int worker, FarRanges& far, Claim claim, std::function<void()> close);

  /// False: it waits for others.
  bool step();
  bool settled() const { return phase_ == Phase::settled; }   ///< until all meet
  void restart() { phase_ = Phase::starting; }
  std::vector<std::uint32_t>& copies() { return copies_; }
  std::function<void(std::int64_t piece)> before_push;

 private:
  enum class Phase { starting, turning, computing, settled };
  std::optional<std::int64_t> claim();
  GradientTurn::Options options();
  void push();
  void end_turn();

  FarLab& lab_;
  int me_;
  FarRanges& far_;
  Claim claim_;
  std::function<void()> close_;
  std::mt19937_64 random_;
  Phase phase_ = Phase::starting;
  std::int64_t left_ = 0;                    // steps of the computation
  std::size_t claimed_ = 0;                  // of the repeated run's pieces
  std::optional<std::int64_t> current_, next_;
  bool pushes_ = false;
  std::vector<std::uint32_t> copies_;
  std::optional<GradientTurn> turn_;
};

}  // namespace tugline
