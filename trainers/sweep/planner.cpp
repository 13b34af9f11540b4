// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/planner.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/search/grid_search.hpp"
#include "tugline/trainers/sweep/space/points.hpp"

namespace tugline::sweep {
namespace {

SeenJobs seen_of(std::span<const JobRecord> jobs, std::size_t known) {
  SeenJobs seen;
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    const auto job = static_cast<std::int64_t>(j);
    if (jobs[j].decision.is_lost()) seen.add(job, job, 0);
    else if (j < known && jobs[j].outcome() != nullptr) seen.add(job, job, static_cast<int>(jobs[j].ends.size()));
  }
  return seen;
}

/// The first one that no job has: one is missing where the decision that made it was lost.
std::int64_t new_trial(std::span<const JobRecord> jobs) {
  std::vector<bool> tried(jobs.size() + 1);
  for (const JobRecord& job : jobs) {
    const auto trial = static_cast<std::size_t>(job.decision.trial);
    if (trial < tried.size()) tried[trial] = true;
  }
  return std::find(tried.begin(), tried.end(), false) - tried.begin();
}

std::size_t ended_up_to(std::span<const JobRecord> jobs) {
  std::size_t known = 0;
  while (known < jobs.size() && jobs[known].ended) ++known;
  return known;
}

}  // namespace

Planner::Planner(const SweepConfig& sweep)
    : sweep_(sweep), halving_(sweep.stop, sweep.objectives), halves_(sweep.stop.rule == "asha"), trials_(sweep.trials),
      search_(make_search(sweep.space, {sweep.method, sweep.seed})) {
  if (sweep.method != "grid") return;
  if (!sweep.first.empty()) throw ConfigError("search.method grid tries every point once, in its own order: leave out first");
  trials_ = std::min(trials_, grid_size(sweep.space));
}

/// All trials at the highest rung where there are enough of them to learn from (Falkner et al. 2018, "BOHB: robust and efficient
/// hyperparameter optimization at scale"). Those that did not come so far count as the worst that did: they are known, and were not good
/// enough.
std::vector<Observation> Planner::history(std::span<const JobRecord> jobs, std::size_t known) const {
  std::vector<std::map<std::int64_t, double>> values(static_cast<std::size_t>(halves_ ? halving_.rungs() : 1));
  std::map<std::int64_t, Observation> trials;
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    const JobRecord& job = jobs[j];
    if (job.decision.is_lost()) continue;
    Observation& trial = trials[job.decision.trial];
    trial.number = job.decision.trial;
    trial.point = job.decision.point;
    if (j >= known || job.outcome() == nullptr) continue;
    const double value = score(sweep_.objectives, *job.outcome());
    if (std::isinf(value)) trial.value = value;   // wherever it failed
    else values[static_cast<std::size_t>(job.decision.rung)][job.decision.trial] = value;
  }
  std::size_t rung = values.size() - 1;
  while (rung > 0 && values[rung].size() < sweep_.space.size() + 2) --rung;
  double worst = -std::numeric_limits<double>::infinity();
  for (const auto& [number, value] : values[rung]) worst = std::max(worst, value);
  std::vector<Observation> result;
  for (auto& [number, trial] : trials) {
    const auto value = values[rung].find(number);
    if (value != values[rung].end() && !trial.has_failed()) trial.value = value->second;
    else if (trial.is_running() && rung > 0 && values[0].contains(number)) trial.value = worst;
    result.push_back(std::move(trial));
  }
  return result;
}

Point Planner::suggest(std::int64_t trial, std::span<const JobRecord> jobs, std::size_t known) {
  if (static_cast<std::size_t>(trial) < sweep_.first.size()) {
    return completed(sweep_.space, sweep_.first[static_cast<std::size_t>(trial)], sweep_.seed, trial);
  }
  return search_->suggest(trial, history(jobs, known));
}

Planner::Next Planner::go_on(std::span<const JobRecord> jobs, std::size_t known, std::int64_t budget) const {
  const auto promotion = halving_.promotion(jobs, known);
  if (!promotion) return Wait{};
  const auto first = std::find_if(jobs.begin(), jobs.end(), [&](const JobRecord& job) { return job.decision.trial == promotion->trial; });
  return Decision{promotion->trial, promotion->rung, halving_.epochs_at(promotion->rung), budget, seen_of(jobs, known), first->decision.point};
}

Planner::Next Planner::decide(std::span<const JobRecord> jobs, std::int64_t budget) {
  const std::size_t number = jobs.size(), lag = static_cast<std::size_t>(sweep_.lag.value_or(0));
  std::size_t known = number;
  if (sweep_.lag) {   // whatever the number of workers: job n knows those up to n - lag, and no others
    known = number + 1 > lag ? number + 1 - lag : 0;
    if (ended_up_to(jobs) < known) return Wait{};
  }
  if (halves_) {
    if (Next next = go_on(jobs, known, budget); std::holds_alternative<Decision>(next)) return next;
  }
  if (const std::int64_t trial = new_trial(jobs); trial < budget) {
    return Decision{trial, 0, halves_ ? halving_.epochs_at(0) : 0, budget, seen_of(jobs, known), suggest(trial, jobs, known)};
  }
  if (!halves_) return Finished{};
  for (; known <= number && ended_up_to(jobs) >= known && sweep_.lag; ++known) {   // nothing else is left to do: it may look further
    if (Next next = go_on(jobs, known, budget); std::holds_alternative<Decision>(next)) return next;
  }
  return ended_up_to(jobs) == number ? Next(Finished{}) : Next(Wait{});
}

Planner::Next Planner::next(std::span<const JobRecord> jobs) {
  // A decision that cannot be read now: whoever ends its job may yet find that it can.
  if (std::any_of(jobs.begin(), jobs.end(), [](const JobRecord& job) { return job.decision.is_lost() && !job.ended; })) return Wait{};
  return decide(jobs, trials_);
}

/// Only where more or fewer ends are known than to the decision before: jobs are large, and there may be many.
void Replay::go_back_to(const Decision& made) {
  for (std::size_t j = 0; j < then_.size(); ++j) {
    const auto job = static_cast<std::int64_t>(j);
    const auto ends = static_cast<std::size_t>(made.seen.ends_of(job));
    then_[j].ended = ends > 0 || made.seen.knows_lost(job);
    const auto& all = jobs_[j].ends;
    const std::size_t known = std::min(ends, all.size());
    if (then_[j].ends.size() != known) then_[j].ends.assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(known));
  }
}

std::optional<Planner::Next> Replay::next() {
  const Decision& made = jobs_[then_.size()].decision;
  bool can = !made.is_lost();
  for (std::size_t j = 0; can && j < then_.size(); ++j) can = !jobs_[j].decision.is_lost() || made.seen.knows_lost(static_cast<std::int64_t>(j));
  std::optional<Planner::Next> again;
  if (can) {
    go_back_to(made);
    again = planner_.decide(then_, made.budget);
  }
  then_.push_back({.decision = made, .ends = {}});
  return again;
}

}  // namespace tugline::sweep
