// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <deque>
#include <functional>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tugline/tests/parallel/async/simulator.hpp"

namespace tugline {
namespace {

using Phase = Simulator::Phase;
using Pick = std::function<int(const std::vector<int>&)>;

/// Lets `pick` choose one of those who may be able to move, until `end`. False: before that nobody could move, or it chose nobody (-1).
bool run(Simulator& simulator, const Pick& pick, const std::function<bool()>& end) {
  std::vector<char> stuck(static_cast<std::size_t>(simulator.job().workers), 0);
  std::vector<int> able;
  while (!end()) {
    able.clear();
    for (int w = 0; w < simulator.job().workers; ++w) {
      if (stuck[static_cast<std::size_t>(w)] == 0 && simulator.phase(w) != Phase::settled) able.push_back(w);
    }
    const int w = able.empty() ? -1 : pick(able);
    if (w < 0) return false;
    if (simulator.step(w)) {
      std::fill(stuck.begin(), stuck.end(), 0);
    } else {
      stuck[static_cast<std::size_t>(w)] = 1;
    }
  }
  return true;
}
bool run(Simulator& simulator, const Pick& pick) {
  return run(simulator, pick, [&] { return simulator.over(); });
}

std::string name(const Job& job) {
  return std::to_string(job.workers) + " workers, " + std::to_string(job.ranges) + " ranges, bound " + std::to_string(job.staleness) +
         (job.first_ranges.empty() ? "" : ", first ranges " + testing::PrintToString(job.first_ranges));
}

std::int64_t between(std::mt19937_64& random, std::int64_t low, std::int64_t high) {
  return std::uniform_int_distribution<std::int64_t>(low, high)(random);
}

/// Some are quick, some slow, some frozen; after a while others are.
class Moody {
 public:
  Moody(std::mt19937_64& random, int workers) : random_(random), weights_(static_cast<std::size_t>(workers)) {}

  int operator()(const std::vector<int>& able) {
    if (--left_ <= 0) {
      left_ = between(random_, 5, 400);
      for (double& weight : weights_) weight = std::array{0.0, 0.02, 0.2, 1.0, 1.0}[static_cast<std::size_t>(between(random_, 0, 4))];
    }
    double total = 0;
    for (const int w : able) total += weights_[static_cast<std::size_t>(w)];
    double point = std::uniform_real_distribution<double>(0, total)(random_);
    for (const int w : able) {
      if ((point -= weights_[static_cast<std::size_t>(w)]) < 0) return w;
    }
    return able[static_cast<std::size_t>(between(random_, 0, std::ssize(able) - 1))];   // all are frozen
  }

 private:
  std::mt19937_64& random_;
  std::vector<double> weights_;
  std::int64_t left_ = 0;
};

/// Every order in which the steps can be made.
struct Explorer {
  Simulator& simulator;
  int closes;                                     // how often the cursor may be closed, whenever that is
  std::unordered_map<std::size_t, double> ways{};   // hash of a state -> how many orders lead from it to the end
  std::vector<int> path{};
  std::deque<Simulator::State> states{};            // along the path
  std::int64_t moves = 0;

  double explore() {
    if (simulator.over()) return 1;
    path.push_back(0);
    double found = 0;
    const int workers = simulator.job().workers;
    for (int w = 0; w < workers; ++w) {
      if (!simulator.is_private(w)) continue;
      path.back() = w;
      simulator.step(w);
      found = explore();
      path.pop_back();
      return found;
    }
    const std::size_t key = std::hash<std::string>()(simulator.key() + static_cast<char>(closes));
    const auto [state, is_new] = ways.emplace(key, 0);
    double& known = state->second;
    if (is_new) {
      if (path.size() > states.size()) states.resize(path.size());
      Simulator::State& here = states[path.size() - 1];   // memory is used again
      here = simulator.state();
      for (int w = 0; w < workers; ++w) {
        path.back() = w;
        if (!simulator.step(w)) continue;
        ++moves;
        known += explore();
        simulator.restore(here);
      }
      if (known == 0) throw Broken("nobody can move, and the run is not over");
      if (closes > 0) {
        path.back() = -1;
        --closes;
        simulator.close();
        known += explore();
        simulator.restore(here);
        ++closes;
      }
    }
    path.pop_back();
    return known;
  }
};

TEST(AsyncProtocol, EveryOrderOfAFewPieces) {
  struct Case {
    Job job;
    std::int64_t dropped;
    int closes;
  };
  const std::vector<Case> cases{
      {{.staleness = 0, .steps = 3, .epoch = 2}, -1, 0},
      {{.staleness = 0, .steps = 3, .epoch = 3}, 4, 1},
      {{.staleness = 1, .steps = 2, .epoch = 2}, -1, 0},
      {{.staleness = 1, .steps = 2, .epoch = 1}, 2, 1},
      {{.staleness = 2, .pieces_per_step = 5, .steps = 1}, -1, 0},
      {{.staleness = 2, .pieces_per_step = 2, .steps = 3, .epoch = 2}, 1, 1},
      {{.workers = 2, .staleness = 1, .pieces_per_step = 2, .steps = 5, .epoch = 5}, -1, 1},
      {{.workers = 2, .staleness = 3, .pieces_per_step = 3, .steps = 4, .epoch = 3}, 5, 0},
  };
  for (Case c : cases) {
    c.job.samples.assign(static_cast<std::size_t>(c.job.num_pieces()), 1);
    c.job.dropped.assign(c.job.samples.size(), 0);
    if (c.dropped >= 0) c.job.dropped[static_cast<std::size_t>(c.dropped)] = 1;
    Simulator simulator(c.job);
    simulator.recording = false;
    Explorer explorer{simulator, c.closes};
    try {
      const double orders = explorer.explore();
      std::printf("bound %d: %zu states, %ld moves, %.1e orders\n", c.job.staleness, explorer.ways.size(), explorer.moves, orders);
      EXPECT_EQ(simulator.most_stale(), c.job.staleness);
    } catch (const Broken& broken) {
      FAIL() << name(c.job) << ": " << broken.what() << " after " << testing::PrintToString(explorer.path);
    }
  }
}

Job random_job(std::mt19937_64& random, int bound) {
  Job job{.workers = static_cast<int>(between(random, 1, 8)), .ranges = static_cast<int>(between(random, 1, 5)), .staleness = bound};
  job.pieces_per_step = bound == 0 ? job.workers : static_cast<int>(between(random, 1, 10));
  job.steps = between(random, 2, 20);
  job.epoch = between(random, 1, job.steps);
  return job;
}

TEST(AsyncProtocol, TheBoundHoldsWhoeverIsSlow) {
  std::mt19937_64 random(20261127);
  std::int64_t pushes = 0, runs = 0;
  std::vector<std::uint32_t> most_stale(13, 0);
  for (; pushes < 300'000; ++runs) {
    const int bound = static_cast<int>(runs % 13);
    Simulator simulator(random_job(random, bound).cut(random, 0.1, runs % 3 == 0 ? 0.1 : 0));
    simulator.recording = false;
    ASSERT_TRUE(run(simulator, Moody(random, simulator.job().workers))) << "nobody can move in run " << runs;
    pushes += simulator.pushes();
    most_stale[static_cast<std::size_t>(bound)] = std::max(most_stale[static_cast<std::size_t>(bound)], simulator.most_stale());
  }
  std::printf("%ld gradients in %ld runs\n", pushes, runs);
  for (std::uint32_t bound = 0; bound < most_stale.size(); ++bound) EXPECT_EQ(most_stale[bound], bound);   // and is made use of
}

TEST(AsyncProtocol, WithABoundOfZeroAnUpdateIsAStep) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 500; ++round) {
    const bool drops = round % 2 == 1;
    Simulator simulator(random_job(random, 0).cut(random, 0.3, drops ? 0.2 : 0));
    ASSERT_TRUE(run(simulator, Moody(random, simulator.job().workers)));
    const Job& job = simulator.job();
    for (const auto& updates : simulator.record().updates) {
      ASSERT_EQ(std::ssize(updates), job.steps);
      for (std::int64_t step = 0; step < job.steps; ++step) {
        const RangeUpdate& update = updates[static_cast<std::size_t>(step)];
        ASSERT_EQ(std::ssize(update.pushes), job.pieces_per_step);
        double kept = 0;
        for (std::int64_t i = 0; i < job.pieces_per_step; ++i) {
          const AppliedPush& push = update.pushes[static_cast<std::size_t>(i)];
          ASSERT_EQ(push.push.piece, step * job.pieces_per_step + i);
          ASSERT_EQ(push.worker, i);
          ASSERT_EQ(push.version_read, step);
          kept += job.kept(push.push.piece);
        }
        ASSERT_EQ(update.number, static_cast<double>(step + 1));
        if (drops) {
          ASSERT_NEAR(update.fraction, kept, 1e-12);
        } else {
          ASSERT_EQ(update.fraction, 1.0);
        }
      }
    }
  }
}

/// As a request to stop or to save does. That each piece is handed out and applied once is checked where all meet.
TEST(AsyncProtocol, ClosedAtAnyTimeNothingIsLost) {
  std::mt19937_64 random(4);
  std::int64_t meetings = 0;
  for (int round = 0; round < 1000; ++round) {
    Job job = random_job(random, static_cast<int>(between(random, 0, 12)));
    const double drop = round % 2 == 0 ? 0 : 0.1;
    Simulator simulator(job.cut(random, 0.2, drop));
    Moody moody(random, job.workers);
    ASSERT_TRUE(run(simulator, [&](const std::vector<int>& able) {
      if (between(random, 0, 99) == 0) simulator.close();
      return moody(able);
    }));
    double kept = 0;
    for (std::int64_t piece = 0; piece < job.num_pieces(); ++piece) kept += job.kept(piece);
    if (drop == 0) {
      ASSERT_NEAR(kept, static_cast<double>(job.steps), 1e-9);
    }
    for (int range = 0; range < job.ranges; ++range) ASSERT_NEAR(simulator.steps_done(range), kept, 1e-9);
    meetings += std::ssize(simulator.record().meetings);
  }
  std::printf("%ld meetings\n", meetings);
}

/// Per range and version: piece, worker, version read.
using Applied = std::vector<std::vector<std::vector<std::array<std::int64_t, 3>>>>;
Applied applied(const Record& record) {
  Applied all;
  for (const auto& updates : record.updates) {
    auto& versions = all.emplace_back();
    for (const RangeUpdate& update : updates) {
      auto& pushes = versions.emplace_back();
      for (const AppliedPush& push : update.pushes) pushes.push_back({push.push.piece, push.worker, push.version_read});
    }
  }
  return all;
}

TEST(AsyncProtocol, ARecordedRunIsRepeated) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 200; ++round) {
    const Job job = random_job(random, static_cast<int>(between(random, 0, 12))).cut(random, 0.2, round % 2 == 0 ? 0 : 0.1);
    Simulator first(job);
    Moody moody(random, job.workers);
    ASSERT_TRUE(run(first, [&](const std::vector<int>& able) {
      if (between(random, 0, 299) == 0) first.close();
      return moody(able);
    }));
    const Applied wanted = applied(first.record());
    for (int time = 0; time < 5; ++time) {
      Job elsewhere = job;   // on other hosts each worker may come to ranges in another order
      for (int worker = 0; worker < job.workers && time % 2 == 1; ++worker) elsewhere.first_ranges.push_back(static_cast<int>(between(random, 0, job.ranges - 1)));
      SCOPED_TRACE(testing::Message() << "run " << round << ": " << name(elsewhere));
      Simulator again(elsewhere, &first.record());
      ASSERT_TRUE(run(again, Moody(random, job.workers))) << "nobody can move";
      const Applied found = applied(again.record());
      for (std::size_t r = 0; r < wanted.size(); ++r) {
        ASSERT_EQ(found[r].size(), wanted[r].size());
        const auto [was, is] = std::mismatch(wanted[r].begin(), wanted[r].end(), found[r].begin(), found[r].end());
        if (was == wanted[r].end()) continue;
        FAIL() << "update " << was - wanted[r].begin() << " of range " << r << " (piece, worker, version read) was " << testing::PrintToString(*was)
               << " and is " << testing::PrintToString(*is);
      }
    }
  }
}

/// In its computation, whatever the others are at: s more updates are made to what it has read. With a single range each of the others then waits
/// with one gradient; with more they may stop earlier, each at a range where the rest have used up the bound. When the frozen one comes, what
/// waits is one update together with its own.
TEST(AsyncProtocol, AFrozenWorkerHoldsTheOthersAtTheBound) {
  std::mt19937_64 random(6);
  for (int round = 0; round < 1000; ++round) {
    Job job{.workers = static_cast<int>(between(random, 2, 8)), .ranges = static_cast<int>(between(random, 1, 5)),
            .staleness = static_cast<int>(between(random, 0, 12))};
    job.pieces_per_step = job.workers;
    job.steps = job.epoch = 80;
    SCOPED_TRACE(testing::Message() << "round " << round << ": " << name(job));
    Simulator simulator(job.cut(random, 0, 0));
    const int frozen = static_cast<int>(between(random, 0, job.workers - 1));
    const std::int64_t others = job.workers - 1, bound = job.staleness;
    const bool from_start = round % 2 == 0;   // the others have read nothing yet
    Moody moody(random, job.workers);
    std::int64_t left = from_start ? 0 : between(random, 0, 300);
    ASSERT_TRUE(run(simulator, moody, [&] { return --left < 0; }));
    const auto it_first = [&](const std::vector<int>& able) { return std::count(able.begin(), able.end(), frozen) > 0 ? frozen : moody(able); };
    ASSERT_TRUE(run(simulator, it_first, [&] { return simulator.phase(frozen) == Phase::computing; }));

    const std::int64_t given = simulator.given();
    const auto all_but_it = [&](std::vector<int> able) {
      std::erase(able, frozen);
      return able.empty() ? -1 : moody(able);
    };
    ASSERT_FALSE(run(simulator, all_but_it));
    std::vector<std::int64_t> waiting(static_cast<std::size_t>(job.ranges), 0), held;
    for (int r = 0; r < job.ranges; ++r) {
      for (int w = 0; w < job.workers; ++w) waiting[static_cast<std::size_t>(r)] += simulator.ledger(r).waits(w) ? 1 : 0;
      held.push_back(simulator.version(r) - simulator.computed_on(frozen, r));
      ASSERT_LE(held.back(), bound);
      ASSERT_TRUE(held.back() == bound || (waiting[static_cast<std::size_t>(r)] == 0 && !from_start));
    }
    ASSERT_TRUE(job.ranges > 1 || waiting.front() == others);
    if (from_start) {   // then each of the s updates is a single gradient
      const std::int64_t beyond = simulator.given() - given - bound;
      ASSERT_LE(beyond, others);
      ASSERT_GE(beyond, (others + job.ranges - 1) / job.ranges);   // with a single range exactly one each
    }

    for (int i = 0; i <= job.ranges; ++i) ASSERT_TRUE(simulator.step(frozen));
    for (int r = 0; r < job.ranges; ++r) {
      const auto index = static_cast<std::size_t>(r);
      ASSERT_EQ(simulator.version(r), simulator.computed_on(frozen, r) + held[index] + 1);
      ASSERT_EQ(std::ssize(simulator.record().updates[index].back().pushes), waiting[index] + 1);
    }
    ASSERT_TRUE(run(simulator, moody));
  }
}

/// Time is what computations take.
class Timed {
 public:
  Timed(const Simulator& simulator, std::function<double(int)> seconds)
      : simulator_(simulator), seconds_(std::move(seconds)), at_(static_cast<std::size_t>(simulator.job().workers), 0) {}

  int operator()(const std::vector<int>& able) {
    const auto at = [&](int w) -> double& { return at_[static_cast<std::size_t>(w)]; };
    const int w = *std::min_element(able.begin(), able.end(), [&](int a, int b) { return at(a) < at(b); });
    now_ = std::max(now_, at(w));
    if (simulator_.phase(w) == Phase::reserving) at(w) = now_ + seconds_(w);
    return w;
  }

 private:
  const Simulator& simulator_;
  std::function<double(int)> seconds_;
  std::vector<double> at_;
  double now_ = 0;
};

Job timed_job(std::mt19937_64& random, int workers, int bound) {
  return Job{.workers = workers, .ranges = 3, .staleness = bound, .pieces_per_step = workers, .steps = 300, .epoch = 300}.cut(random, 0, 0);
}

/// While a worker computes once, another can push as often as the first is slower, rounded up: a bound of so many updates by each of the others
/// never makes anybody wait, and a smaller one does.
TEST(AsyncProtocol, ABoundThatAllowsForTheRatioOfSpeedsMakesNobodyWait) {
  std::mt19937_64 random(7);
  for (int workers = 2; workers <= 8; ++workers) {
    for (int ratio = 2; ratio <= 4; ++ratio) {
      Simulator enough(timed_job(random, workers, ratio * (workers - 1)));
      std::uniform_real_distribution<double> seconds(1, ratio);
      ASSERT_TRUE(run(enough, Timed(enough, [&](int) { return seconds(random); })));
      EXPECT_EQ(enough.waits(), 0) << workers << " workers, ratio " << ratio;
      for (const int less : {0, 1}) {
        Simulator worst(timed_job(random, workers, ratio * (workers - 1) - less));
        ASSERT_TRUE(run(worst, Timed(worst, [&](int w) { return w == 1 ? ratio - 0.01 : 1; })));
        EXPECT_EQ(worst.waits() > 0, less > 0) << workers << " workers, ratio " << ratio;
      }
    }
  }
}

TEST(AsyncProtocol, WhatIsStalerThanAStepIsDividedByHowMuch) {
  EXPECT_EQ(staleness_factor(3, 4, 1), 1);
  EXPECT_EQ(staleness_factor(4, 4, 1), 0.8);
  EXPECT_EQ(staleness_factor(7, 4, 1), 0.5);
  EXPECT_EQ(staleness_factor(7, 4, 2), 0.25);
  EXPECT_EQ(staleness_factor(7, 4, 0), 1);
}

/// For each piece of a slow worker the others do as many as they can, but s and one more each.
TEST(AsyncProtocol, ASlowWorkerDoesAsMuchLessAsTheBoundAllows) {
  std::mt19937_64 random(8);
  const auto part = [&](int workers, int bound, double slowness) {
    Simulator simulator(timed_job(random, workers, bound));
    std::uniform_real_distribution<double> noise(0.9, 1.1);
    EXPECT_TRUE(run(simulator, Timed(simulator, [&](int w) { return (w == 1 ? slowness : 1) * noise(random); })));
    const auto slow = static_cast<double>(simulator.given(1));
    return slow * (workers - 1) / (static_cast<double>(simulator.given()) - slow);
  };
  for (int workers = 2; workers <= 8; ++workers) {
    EXPECT_NEAR(part(workers, 2 * (workers - 1), 2), 1.0 / 2, 0.02) << workers << " workers";
    for (const int bound : {1, workers - 1, 2 * (workers - 1)}) {
      const double others = workers - 1;
      EXPECT_NEAR(part(workers, bound, 6), others / (bound + others), 0.02) << workers << " workers, bound " << bound;
    }
  }
}

}  // namespace
}  // namespace tugline
