// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "tugline/tests/parallel/async/far_lab.hpp"
#include "tugline/core/error.hpp"
#include "tugline/parallel/async/range_server.hpp"
#include "tugline/parallel/threads/thread_group.hpp"
#include "tugline/parallel/threads/thread_team.hpp"

namespace tugline {
namespace {

std::int64_t between(std::mt19937_64& random, std::int64_t low, std::int64_t high) {
  return std::uniform_int_distribution<std::int64_t>(low, high)(random);
}

/// Some are quick, some slow, some frozen; after a while others are.
class Moody {
 public:
  Moody(std::mt19937_64& random, std::size_t size) : random_(random), weights_(size) {}
  std::size_t operator()() {
    if (--left_ <= 0) {
      left_ = between(random_, 5, 400);
      for (double& weight : weights_) weight = std::array{0.001, 0.02, 0.2, 1.0, 1.0}[static_cast<std::size_t>(between(random_, 0, 4))];
      pick_ = std::discrete_distribution<std::size_t>(weights_.begin(), weights_.end());
    }
    return pick_(random_);
  }

 private:
  std::mt19937_64& random_;
  std::vector<double> weights_;
  std::discrete_distribution<std::size_t> pick_;
  std::int64_t left_ = 0;
};

/// All workers and desks in one thread, in an order that depends on the seed only; messages take as long as nobody looks for them.
void run_simulated(FarLab& lab) {
  const int workers = lab.job().workers(), hosts = lab.job().hosts();
  std::mt19937_64 random(lab.seed);
  const auto channels = threads::make_team(std::make_shared<threads::Fate>(workers));
  std::vector<std::unique_ptr<RangeDesk>> desks;
  for (int host = 0; host < hosts; ++host) {
    const int first = lab.first_worker(host);
    desks.push_back(std::make_unique<RangeDesk>(*channels[static_cast<std::size_t>(first)], lab.access(first), lab.desk_options(host)));
  }
  std::vector<std::unique_ptr<FarRanges>> fars;
  std::vector<std::unique_ptr<FarWorker>> team;
  for (int w = 0; w < workers; ++w) {
    fars.push_back(lab.make_far(*channels[static_cast<std::size_t>(w)], w));
    team.push_back(std::make_unique<FarWorker>(lab, w, *fars.back(), [&lab, w] { return lab.claim(w); }, [&lab] { lab.close(); }));
  }
  Moody moody(random, team.size() + desks.size());
  std::int64_t idle = 0;
  while (!lab.over()) {
    const std::size_t who = moody();
    const bool moved = who < team.size() ? team[who]->step() : desks[who - team.size()]->advance();
    idle = moved ? 0 : idle + 1;
    if (idle > 200'000) throw Broken("nobody can move");
    if (!std::all_of(team.begin(), team.end(), [](const auto& worker) { return worker->settled(); })) continue;
    lab.meet();
    for (auto& worker : team) worker->restart();
  }
  for (const auto& desk : desks) {
    desk->advance();
    desk->stop(false);
    EXPECT_TRUE(desk->finished());
  }
}

/// Each rank a thread, and each host's server one more. `before_push` of a rank may throw.
void run_threads(FarLab& lab, const std::function<void(int worker, std::int64_t piece)>& before_push = {}) {
  run_thread_team(lab.job().workers(), [&](std::unique_ptr<Communicator> control) {
    const int me = control->rank(), host = lab.job().host_of[static_cast<std::size_t>(me)];
    const auto channel = control->duplicate();
    std::unique_ptr<RangeServer> server;
    if (lab.first_worker(host) == me) server = std::make_unique<RangeServer>(*channel, lab.access(me), lab.desk_options(host));
    const auto far = lab.make_far(*channel, me);
    FarCursor cursor(*channel, 0);
    FarWorker worker(lab, me, *far, [&] { return host == 0 ? lab.claim(me) : cursor.claim(); }, [&] { host == 0 ? lab.close() : cursor.close(); });
    if (before_push) worker.before_push = [&](std::int64_t piece) { before_push(me, piece); };
    while (!lab.over()) {
      while (!worker.settled()) {
        if (worker.step()) continue;
        control->probe(-1, 1);   // throws when another rank has failed
        if (server) server->check();
        sched_yield();
      }
      control->barrier();
      if (host != 0) lab.check(cursor.end_step() == lab.end_step(), "the end of the step is another over there");
      control->barrier();
      if (me == 0) lab.meet();
      control->barrier();
      far->fetch(worker.copies());
      for (int range = 0; range < lab.job().ranges; ++range) {
        if (far->is_far(range)) continue;
        LockedRange locked(lab.access(me), range);
        lab.access(me).copy_out(range);
        worker.copies()[static_cast<std::size_t>(range)] = locked.version();
      }
      lab.check_copies(me, worker.copies());
      worker.restart();
      control->barrier();
    }
  });
}

FarJob random_job(std::mt19937_64& random, int bound) {
  FarJob job;
  job.host_of.clear();
  const auto hosts = static_cast<int>(between(random, 2, 3));
  for (int host = 0; host < hosts; ++host) job.host_of.insert(job.host_of.end(), static_cast<std::size_t>(between(random, 1, 6 / hosts)), host);
  job.ranges = static_cast<int>(between(random, 1, 5));
  job.staleness = bound;
  job.pieces_per_step = bound == 0 ? job.workers() : static_cast<int>(between(random, 1, 8));
  job.steps = between(random, 2, 20);
  job.epoch = between(random, 1, job.steps);
  job.most_computing = static_cast<int>(between(random, 0, 60));
  return job;
}

/// Workers on other hosts than before, perhaps all on one.
std::vector<int> spread_anew(int workers, std::mt19937_64& random) {
  std::vector<int> host_of{0};
  while (std::ssize(host_of) < workers) host_of.push_back(host_of.back() + static_cast<int>(between(random, 0, 1)));
  return host_of;
}

FarJob& drop(FarJob& job, std::mt19937_64& random, double probability) {
  for (std::int64_t piece = 0; piece < job.pieces(); ++piece) {
    if (std::bernoulli_distribution(probability)(random)) job.dropped.insert(piece);
  }
  return job;
}

std::string name_of(const FarJob& job) {
  return std::to_string(job.workers()) + " workers on " + std::to_string(job.hosts()) + " hosts, " + std::to_string(job.ranges) + " ranges, bound " +
         std::to_string(job.staleness);
}

/// Some runs leave gradients out, some meet early.
FarJob job_of_run(std::int64_t run, int bound, std::mt19937_64& random) {
  FarJob job = random_job(random, bound);
  drop(job, random, run % 3 == 0 ? 0.1 : 0);
  job.close = run % 4 == 0 ? 0.02 : 0;
  return job;
}

TEST(FarRanges, TheBoundHoldsOverHosts) {
  std::mt19937_64 random(20261128);
  std::int64_t pushes = 0, runs = 0;
  std::vector<std::uint32_t> most_stale(9, 0);
  for (; pushes < 100'000; ++runs) {
    const auto bound = static_cast<std::size_t>(runs) % most_stale.size();
    const FarJob job = job_of_run(runs, static_cast<int>(bound), random);
    FarLab lab(job, random());
    SCOPED_TRACE("run " + std::to_string(runs) + ": " + name_of(job));
    ASSERT_NO_THROW(run_simulated(lab));
    pushes += lab.pushes;
    most_stale[bound] = std::max(most_stale[bound], lab.most_stale);
  }
  std::printf("%ld gradients in %ld runs\n", pushes, runs);
  for (std::uint32_t bound = 0; bound < most_stale.size(); ++bound) EXPECT_EQ(most_stale[bound], bound);   // and is made use of
}

TEST(FarRanges, ARecordedRunIsRepeatedOverHosts) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 100; ++round) {
    FarJob job = random_job(random, static_cast<int>(between(random, 0, 8)));
    drop(job, random, round % 2 == 0 ? 0 : 0.1);
    job.close = 0.01;
    FarLab first(job, random());
    SCOPED_TRACE("round " + std::to_string(round) + ": " + name_of(job));
    ASSERT_NO_THROW(run_simulated(first));
    job.repeat = &first.record;
    for (int time = 0; time < 4; ++time) {
      FarJob elsewhere = job;
      if (time % 2 == 1) elsewhere.host_of = spread_anew(job.workers(), random);
      FarLab again(elsewhere, random());
      ASSERT_NO_THROW(run_simulated(again));
      ASSERT_EQ(again.record.updates, first.record.updates);
      ASSERT_EQ(again.record.meetings, first.record.meetings);
    }
  }
}

TEST(FarRanges, TheBoundHoldsBetweenThreads) {
  std::mt19937_64 random(7);
  std::int64_t pushes = 0, runs = 0;
  for (; pushes < 30'000; ++runs) {
    const FarJob job = job_of_run(runs, static_cast<int>(runs % 7), random);
    FarLab lab(job, random());
    SCOPED_TRACE("run " + std::to_string(runs) + ": " + name_of(job));
    ASSERT_NO_THROW(run_threads(lab));
    pushes += lab.pushes;
  }
  std::printf("%ld gradients in %ld runs\n", pushes, runs);
}

TEST(FarRanges, ARecordedRunIsRepeatedBetweenThreads) {
  std::mt19937_64 random(8);
  for (int round = 0; round < 6; ++round) {
    FarJob job = random_job(random, static_cast<int>(between(random, 0, 6)));
    drop(job, random, 0.1);
    FarLab first(job, random());
    SCOPED_TRACE("round " + std::to_string(round) + ": " + name_of(job));
    ASSERT_NO_THROW(run_threads(first));
    job.repeat = &first.record;
    for (const bool moved : {false, true}) {
      FarJob elsewhere = job;
      if (moved) elsewhere.host_of = spread_anew(job.workers(), random);
      FarLab again(elsewhere, random());
      ASSERT_NO_THROW(run_threads(again));
      ASSERT_EQ(again.record.updates, first.record.updates);
    }
  }
}

/// One round of messages for all gradients and one for all reads, however many ranges there are.
TEST(FarRanges, LatencyIsPaidOnceAndNotPerRange) {
  for (const int ranges : {2, 14}) {
    FarLab lab({.ranges = ranges, .staleness = 1, .pieces_per_step = 1, .steps = 10, .epoch = 10}, 1);
    const auto channels = threads::make_team(std::make_shared<threads::Fate>(2));
    RangeDesk desk(*channels[0], lab.access(0), lab.desk_options(0));
    const auto far = lab.make_far(*channels[1], 1);
    FarWorker worker(lab, 1, *far, [&] { return lab.claim(1); }, {});
    int rounds = 0;
    while (!worker.settled()) {
      if (worker.step()) continue;
      ++rounds;
      while (desk.advance()) {}
    }
    EXPECT_EQ(rounds, 1 + 9 * 2 + 1);   // the first only reads, the last only gives
  }
}

TEST(FarRanges, WhoAsksForMuchKeepsNobodyWaiting) {
  FarLab lab({.host_of = {0, 1, 2}}, 1);
  for (const std::size_t greedy : {1U, 2U}) {
    const auto channels = threads::make_team(std::make_shared<threads::Fate>(3));
    RangeDesk desk(*channels[0], lab.access(0), lab.desk_options(0));
    const FarRequest request{.what = FarRequest::What::end_step, .push = {}};
    for (int i = 0; i < 100; ++i) channels[greedy]->send(&request, sizeof request, 0, far_tags::kRequest);
    channels[3 - greedy]->send(&request, sizeof request, 0, far_tags::kRequest);
    desk.advance();
    EXPECT_TRUE(channels[3 - greedy]->probe(0, far_tags::kClaim));
  }
}

TEST(FarRanges, LargeOnes) {
  FarJob job{.host_of = {0, 0, 1, 2}, .ranges = 4, .staleness = 4, .pieces_per_step = 4, .steps = 6, .epoch = 3, .elements = 200'000};
  FarLab lab(job, 1);
  run_threads(lab);
  EXPECT_EQ(lab.pushes, 4 * 24);
}

TEST(FarRanges, NobodyWaitsForARankThatHasFailed) {
  for (int round = 0; round < 20; ++round) {
    FarJob job{.host_of = {0, 0, 1, 1, 2}, .ranges = 3, .staleness = round % 4, .pieces_per_step = 5, .steps = 20, .epoch = 20};
    FarLab lab(job, static_cast<std::uint64_t>(round));
    // Somebody computes every piece, but a worker that gets no time may compute none.
    EXPECT_THROW(run_threads(lab, [&](int /*worker*/, std::int64_t piece) {
      if (piece == 31 + round) throw DataError("no more");
    }), Error);
  }
}

/// What the server's thread meets is thrown where its rank looks after it.
TEST(FarRanges, AnErrorOfTheServerIsThrownByCheck) {
  run_thread_team(2, [](std::unique_ptr<Communicator> channel) {
    FarLab lab(FarJob{}, 1);
    if (channel->rank() == 0) {
      RangeDesk::Options options = lab.desk_options(0);
      options.cursor = {};
      RangeServer server(*channel, lab.access(0), std::move(options));
      EXPECT_THROW(for (;;) server.check(), Error);
      channel->send("", 0, 1, 9);
    } else {
      const FarRequest request{.what = FarRequest::What::claim, .push = {}};
      channel->send(&request, sizeof request, 0, far_tags::kRequest);
      channel->receive(nullptr, 0, 0, 9);
    }
  });
}

/// Its rank may not look after it for a while, and the others wait for answers.
TEST(FarRanges, ADeskWhoseMessagesFailSaysSoUnlessTheJobIsEnding) {
  for (const bool ending : {false, true}) {
    FarLab lab(FarJob{}, 1);
    const auto fate = std::make_shared<threads::Fate>(2);
    const auto channels = threads::make_team(fate);
    int told = 0;
    RangeDesk::Options options = lab.desk_options(0);
    options.failed = [&](const std::exception&) { ++told; };
    RangeDesk desk(*channels[0], lab.access(0), std::move(options));
    fate->fail();
    if (ending) desk.stop(true);
    EXPECT_THROW(desk.advance(), CommError);
    EXPECT_EQ(told, ending ? 0 : 1);
  }
}

}  // namespace
}  // namespace tugline
