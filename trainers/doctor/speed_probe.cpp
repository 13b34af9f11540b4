// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/doctor/speed_probe.hpp"

#include <algorithm>
#include <boost/describe/class.hpp>
#include <boost/json.hpp>
#include <cmath>
#include <ctime>
#include <numeric>

#include "tugline/parallel/world.hpp"

namespace tugline {

BOOST_DESCRIBE_STRUCT(RoundFacts, (), (rounds, median_seconds, best_seconds, p90_seconds, per_second))
BOOST_DESCRIBE_STRUCT(SpeedFacts, (), (rank, host, arithmetic, memory, cpu_share))

namespace {

namespace json = boost::json;

class ThreadCpuClock final : public Clock {
 public:
  double seconds() const override {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }
};

/// Units that take this rank about the time of a round.
std::int64_t calibrate(SpeedWork& work, const ProbePlan& plan) {
  for (std::int64_t units = 1;; units *= 2) {
    const double start = plan.wall.seconds();
    work.run(units);
    const double seconds = plan.wall.seconds() - start;
    if (seconds < plan.round_seconds / 2) continue;
    return std::max<std::int64_t>(1, std::llround(static_cast<double>(units) * plan.round_seconds / seconds));
  }
}

struct Rounds {
  std::vector<double> seconds;
  double wall_seconds = 0, cpu_seconds = 0;
};

/// Rounds until `budget_seconds` have passed; at least one. One that ends later counts only when it is the first: some
/// ranks have stopped by then, and those that are left have the machine to themselves.
Rounds run_rounds(SpeedWork& work, std::int64_t units, double budget_seconds, const ProbePlan& plan) {
  Rounds rounds;
  double start = plan.wall.seconds();
  const double deadline = start + budget_seconds;
  do {
    const double cpu_start = plan.cpu.seconds();
    work.run(units);
    const double end = plan.wall.seconds();
    if (end > deadline && !rounds.seconds.empty()) break;
    rounds.seconds.push_back(end - start);
    rounds.wall_seconds += end - start;
    rounds.cpu_seconds += plan.cpu.seconds() - cpu_start;
    start = end;
  } while (start < deadline);
  return rounds;
}

/// The pace is a mean, not the median: a quota or a busy neighbour makes rounds of two kinds, and the median would tell of
/// one kind alone. Without the ends, so that one hiccup moves nothing.
RoundFacts facts_of(Rounds rounds, double amount_per_round) {
  std::vector<double>& sorted = rounds.seconds;
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double fraction) {
    return sorted[static_cast<std::size_t>(std::lround(fraction * static_cast<double>(sorted.size() - 1)))];
  };
  const auto tenth = static_cast<std::ptrdiff_t>((sorted.size() + 5) / 10);
  const double middle = std::accumulate(sorted.begin() + tenth, sorted.end() - tenth, 0.0);
  const double count = static_cast<double>(sorted.size()) - 2 * static_cast<double>(tenth);
  return {.rounds = static_cast<std::int64_t>(sorted.size()),
          .median_seconds = at(0.5),
          .best_seconds = sorted.front(),
          .p90_seconds = at(0.9),
          .per_second = amount_per_round * count / std::max(middle, 1e-9)};
}

}  // namespace

const Clock& thread_cpu_clock() {
  static const ThreadCpuClock clock;
  return clock;
}

std::vector<SpeedFacts> probe_speeds(World& world, SpeedWork& arithmetic, SpeedWork& memory, const ProbePlan& plan) {
  Communicator& control = world.control();
  double wall_seconds = 0, cpu_seconds = 0;
  const auto probe = [&](SpeedWork& work) {
    control.barrier();  // calibrated under the same load as measured
    const std::int64_t units = control.all_reduce(calibrate(work, plan), ReduceOp::max);
    control.barrier();
    const Rounds rounds = run_rounds(work, units, plan.total_seconds / 2, plan);
    wall_seconds += rounds.wall_seconds;
    cpu_seconds += rounds.cpu_seconds;
    return facts_of(rounds, static_cast<double>(units) * work.amount_per_unit());
  };
  SpeedFacts mine{.rank = world.rank(), .host = world.hosts().at(static_cast<std::size_t>(world.rank()))};
  mine.arithmetic = probe(arithmetic);
  mine.memory = probe(memory);
  mine.cpu_share = std::min(1.0, cpu_seconds / std::max(wall_seconds, 1e-9));

  std::vector<SpeedFacts> all;
  for (const std::string& one : control.all_gather(json::serialize(json::value_from(mine))))
    all.push_back(json::value_to<SpeedFacts>(json::parse(one)));
  return all;
}

}  // namespace tugline
