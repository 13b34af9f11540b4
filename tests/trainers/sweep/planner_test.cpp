// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/planner.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tugline/core/error.hpp"
#include "tugline/core/random.hpp"
#include "tugline/trainers/sweep/median_rule.hpp"

namespace tugline::sweep {
namespace {

SweepConfig sweep_of(const std::string& more) {
  return parse_sweep("sweep: {name: free, seed: 3}\nobjectives: [{metric: loss, goal: min}]\n"
                     "space: {x: {float: [0, 1]}, y: {float: [0, 1]}}\n" + more, "s.yaml");
}

/// Better the longer it runs.
Outcome result_of(const Decision& decision) {
  Outcome outcome;
  outcome.epochs = static_cast<double>(decision.until);
  outcome.metrics["loss"] = std::pow(decision.point[0] - 0.3, 2) + std::pow(decision.point[1] - 0.6, 2) + 1.0 / static_cast<double>(decision.until + 1);
  return outcome;
}

/// When there are so many jobs, the decision of one cannot be read any more.
struct Loss {
  std::size_t jobs = 0, job = 0;
};

/// So many workers whose jobs end in a seeded order.
std::vector<JobRecord> simulate(const SweepConfig& sweep, std::size_t workers, std::uint64_t seed, Loss loss = {}) {
  Planner planner(sweep);
  std::vector<JobRecord> jobs;
  std::vector<std::size_t> running;
  Random random(seed, Purpose::search, 99);
  while (true) {
    while (running.size() < workers) {
      const auto next = planner.next(jobs);
      if (std::holds_alternative<Planner::Finished>(next)) return jobs;
      const auto* const decision = std::get_if<Decision>(&next);
      if (decision == nullptr) break;
      running.push_back(jobs.size());
      jobs.push_back({*decision, {}, false});
      if (jobs.size() != loss.jobs) continue;
      jobs[loss.job] = {lost_decision(), {}, false};
      EXPECT_TRUE(std::holds_alternative<Planner::Wait>(planner.next(jobs))) << "until the job has been ended";
      jobs[loss.job].ends.emplace_back().state = Outcome::State::lost;
      jobs[loss.job].ended = true;
      std::erase(running, loss.job);
    }
    if (running.empty()) {
      ADD_FAILURE() << "all wait for nobody after " << jobs.size() << " jobs";
      return jobs;
    }
    const auto who = running.begin() + static_cast<std::ptrdiff_t>(random.below(running.size()));
    JobRecord& job = jobs[*who];
    job.ends.push_back(result_of(job.decision));
    job.ended = true;
    running.erase(who);
  }
}

std::vector<std::string> table(const SweepConfig& sweep, const std::vector<JobRecord>& jobs) {
  std::vector<std::string> lines;
  for (const JobRecord& job : jobs) lines.push_back(to_json(sweep.space, job.decision));
  return lines;
}

TEST(Planner, WithALagAnyNumberOfWorkersMakesTheSameTable) {
  for (const char* const stop : {"none}", "asha, min: 1, max: 9, eta: 3}"}) {
    const SweepConfig sweep = sweep_of(std::string("search: {method: gp}\nbudget: {trials: 24}\nrepeat: {mode: lag, lag: 8}\nstop: {rule: ") + stop);
    const auto one = table(sweep, simulate(sweep, 1, 1));
    EXPECT_EQ(one, table(sweep, simulate(sweep, 4, 2)));
    EXPECT_EQ(one, table(sweep, simulate(sweep, 8, 3)));
    EXPECT_GE(one.size(), 24u);
  }
}

TEST(Planner, ADecisionIsMadeAgainFromWhatItKnew) {
  const SweepConfig sweep = sweep_of("search: {method: gp}\nbudget: {trials: 30}\nstop: {rule: asha, min: 1, max: 9, eta: 3}");
  const auto jobs = simulate(sweep, 5, 4);
  Planner planner(sweep);
  Replay again(planner, jobs);
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    const auto decision = again.next();
    ASSERT_TRUE(decision && std::holds_alternative<Decision>(*decision)) << j;
    EXPECT_EQ(to_json(sweep.space, std::get<Decision>(*decision)), to_json(sweep.space, jobs[j].decision));
    EXPECT_EQ(to_json(sweep.space, decision_from_json(sweep.space, to_json(sweep.space, jobs[j].decision))), to_json(sweep.space, jobs[j].decision));
  }
}

/// Another decider may see less than the one before, and a job that was opened again ends twice.
TEST(Planner, ADecisionMayHaveKnownLessThanTheOneBefore) {
  const SweepConfig sweep = sweep_of("search: {method: tpe}\nbudget: {trials: 40}");
  Planner planner(sweep);
  std::vector<JobRecord> jobs;
  Random random(5, Purpose::search, 99);
  while (jobs.size() < 40) {
    std::vector<JobRecord> seen = jobs;
    for (std::size_t hidden = random.below(4); hidden > 0 && !seen.empty(); --hidden) {
      JobRecord& job = seen[random.below(seen.size())];
      job.ended = job.ends.size() == 2;   // or its second end alone
      job.ends.resize(job.ended ? 1 : 0);
    }
    const Decision decision = std::get<Decision>(planner.next(seen));
    jobs.push_back({decision, {result_of(decision)}, true});
    JobRecord& retried = jobs[random.below(jobs.size())];
    if (retried.ends.size() == 1) retried.ends.push_back(result_of(decision));
  }
  Replay again(planner, jobs);
  for (const JobRecord& job : jobs) {
    const auto decision = again.next();
    ASSERT_TRUE(decision && std::holds_alternative<Decision>(*decision));
    EXPECT_EQ(to_json(sweep.space, std::get<Decision>(*decision)), to_json(sweep.space, job.decision));
  }
}

TEST(Planner, WhatALostDecisionDecidedIsDecidedAgainAndNothingElse) {
  for (const char* const rule : {"none}", "asha, min: 1, max: 9, eta: 3}", "none}\nrepeat: {mode: lag, lag: 4}"}) {
    const SweepConfig sweep = sweep_of(std::string("search: {method: tpe}\nbudget: {trials: 18}\nstop: {rule: ") + rule);
    const std::size_t all = simulate(sweep, 3, 7).size();
    for (std::size_t job = 0; job < all; ++job) {
      const std::size_t until = std::min(job + 4, all);
      const auto jobs = simulate(sweep, 3, 7, {until, job});
      std::set<std::pair<std::int64_t, int>> done;
      for (const JobRecord& one : jobs) {
        if (one.decision.is_lost()) continue;
        EXPECT_TRUE(done.emplace(one.decision.trial, one.decision.rung).second) << "trial " << one.decision.trial << " twice at one rung";
      }
      for (std::int64_t trial = 0; trial < 18; ++trial) {
        EXPECT_NE(done.lower_bound({trial, 0}), done.end());
        EXPECT_EQ(done.lower_bound({trial, 0})->first, trial) << "job " << job << " was lost, and its trial with it";
      }
      Planner planner(sweep);
      Replay again(planner, jobs);
      for (std::size_t j = 0; j < jobs.size(); ++j) {
        const auto decision = again.next();
        ASSERT_EQ(decision.has_value(), j < job || j >= until) << j << ": between, they knew what is lost";
        if (!decision) continue;
        EXPECT_EQ(to_json(sweep.space, std::get<Decision>(*decision)), to_json(sweep.space, jobs[j].decision)) << j;
      }
    }
  }
}

TEST(Planner, ABudgetThatGrewLaterChangesNoEarlierDecision) {
  const std::string text = "search: {method: random}\nstop: {rule: asha, min: 1, max: 9, eta: 3}\nbudget: {trials: ";
  const SweepConfig sweep = sweep_of(text + "9}"), larger = sweep_of(text + "12}");
  const auto jobs = simulate(sweep, 2, 6);
  ASSERT_GT(jobs.size(), 9u) << "some were promoted";
  Planner planner(larger);
  Replay again(planner, jobs);
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    const auto decision = again.next();
    ASSERT_TRUE(decision && std::holds_alternative<Decision>(*decision)) << j;
    EXPECT_EQ(to_json(sweep.space, std::get<Decision>(*decision)), to_json(sweep.space, jobs[j].decision)) << j;
  }
}

TEST(Planner, WhatCannotBeSearchedIsRefusedAndWhatIsHugeIsNotWalked) {
  EXPECT_THROW(Planner(parse_sweep("objectives: [{metric: loss}]\nspace: {x: {ordinal: [1, 2, 3]}}\nfirst: [{x: 3}]\nsearch: {method: grid}", "s.yaml")), ConfigError);
  const SweepConfig halving = sweep_of("stop: {rule: asha, min: 1, max: 9000000000000000000, eta: 2}");
  EXPECT_EQ(SuccessiveHalving(halving.stop, halving.objectives).epochs_at(100), 9000000000000000000);
  const SweepConfig wide = parse_sweep("objectives: [{metric: loss}]\nspace: {x: {int: [0, 9007199254740992]}}\nforbid: ['x < 8998000000000000']\nsearch: {method: regevo}", "s.yaml");
  Planner planner(wide);
  EXPECT_TRUE(std::holds_alternative<Decision>(planner.next({})));
}

TEST(Planner, HalvingKeepsTheBudgetAndPromotesTheBest) {
  const SweepConfig sweep = sweep_of("search: {method: random}\nbudget: {trials: 27}\nstop: {rule: asha, min: 1, max: 9, eta: 3}");
  const auto jobs = simulate(sweep, 3, 5);
  std::vector<std::set<std::int64_t>> rungs(3);
  for (const JobRecord& job : jobs) {
    EXPECT_TRUE(rungs[static_cast<std::size_t>(job.decision.rung)].insert(job.decision.trial).second) << "epochs were repeated";
    EXPECT_EQ(job.decision.until, std::vector<std::int64_t>({1, 3, 9})[static_cast<std::size_t>(job.decision.rung)]);
  }
  EXPECT_EQ(rungs[0].size(), 27u);
  EXPECT_GE(rungs[1].size(), 9u);
  EXPECT_GE(rungs[2].size(), 3u);
  std::int64_t best = 0;
  double best_value = 1e9;
  for (const JobRecord& job : jobs) {
    if (job.decision.rung == 0 && result_of(job.decision).metrics["loss"] < best_value) {
      best = job.decision.trial;
      best_value = result_of(job.decision).metrics["loss"];
    }
  }
  EXPECT_TRUE(rungs[2].contains(best));
}

TEST(Planner, WhatFailedIsNeverPromoted) {
  const SweepConfig sweep = sweep_of("search: {method: random}\nbudget: {trials: 6}\nstop: {rule: asha, min: 1, max: 3, eta: 3}");
  Planner planner(sweep);
  std::vector<JobRecord> jobs;
  auto next = planner.next(jobs);
  for (; std::holds_alternative<Decision>(next); next = planner.next(jobs)) {
    EXPECT_EQ(std::get<Decision>(next).rung, 0);
    Outcome failed;
    failed.state = Outcome::State::crashed;
    jobs.push_back({std::get<Decision>(next), {failed}, true});
  }
  EXPECT_TRUE(std::holds_alternative<Planner::Finished>(next));
  EXPECT_EQ(jobs.size(), 6u);
}

TEST(Planner, AGridEndsWhereItHasNoMorePoints) {
  const SweepConfig sweep = parse_sweep("sweep: {name: g}\nobjectives: [{metric: loss}]\nspace: {a: {choice: [u, v]}, b: {int: [1, 3]}}\n"
                                        "search: {method: grid}\nbudget: {trials: 100}", "s.yaml");
  Planner planner(sweep);
  std::vector<JobRecord> jobs;
  std::set<Point> points;
  for (auto next = planner.next(jobs); std::holds_alternative<Decision>(next); next = planner.next(jobs)) {
    points.insert(std::get<Decision>(next).point);
    jobs.push_back({std::get<Decision>(next), {}, false});
  }
  EXPECT_EQ(jobs.size(), 6u);
  EXPECT_EQ(points.size(), 6u);
}

TEST(MedianRule, StopsWhatIsWorseThanHalfOfTheOthers) {
  StopSettings settings;
  settings.min = 2;
  settings.warmup_trials = 3;
  const std::vector<Curve> others{{{1, 1.0}, {2, 0.8}, {3, 0.0}}, {{1, 0.9}, {2, 0.7}, {3, 0.0}}, {{1, 0.8}, {2, 0.6}, {3, 0.0}}};
  EXPECT_TRUE(is_below_median(settings, others, {{1, 0.95}, {2, 0.9}}));
  EXPECT_FALSE(is_below_median(settings, others, {{1, 0.95}, {2, 0.75}}));
  EXPECT_FALSE(is_below_median(settings, others, {{1, 0.95}}));
  EXPECT_FALSE(is_below_median(settings, std::span(others).first(2), {{1, 0.95}, {2, 0.9}}));
}

TEST(SeenJobs, AreWrittenShortAndReadBack) {
  const SeenJobs seen{{0, 1}, {1, 1}, {2, 1}, {5, 2}, {6, 0}, {7, 1}};
  EXPECT_EQ(to_text(seen), "0-2 5x2 6x0 7");
  EXPECT_EQ(seen_jobs_from_text("0-2 5x2 6x0 7"), seen);
  EXPECT_TRUE(seen.knows_lost(6));
  EXPECT_FALSE(seen.knows_lost(5));
  EXPECT_EQ(seen.ends_of(6), 0);
  EXPECT_EQ(seen_jobs_from_text(""), SeenJobs{});
}

}  // namespace
}  // namespace tugline::sweep
