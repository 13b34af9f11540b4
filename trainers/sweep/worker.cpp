// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/worker.hpp"

#include <algorithm>
#include <csignal>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"
#include "tugline/trainers/launch/leftovers.hpp"
#include "tugline/trainers/launch/process_tree.hpp"
#include "tugline/trainers/sweep/median_rule.hpp"
#include "tugline/trainers/sweep/trial_run.hpp"

namespace tugline::sweep {
namespace {

constexpr double kGraceSeconds = 60;    // to save in
constexpr double kMostRestSeconds = 0.3;   // until it looks again for something to do
constexpr double kLookSeconds = 0.5;    // at the curve of a trial that may be stopped

double now() { return Clock::steady().seconds(); }

}  // namespace

Worker::Worker(const SweepConfig& sweep)
    : sweep_(sweep), folder_(sweep), beats_(sweep.run.lease_seconds, Patience::Trust::once_earned), reads_(sweep.run.lease_seconds) {
  adopt_orphans();
  folder_.claim();
}

void Worker::beat() {
  if (beats_.seconds_since_success() >= sweep_.run.lease_seconds / 6) beats_.try_call([&] { folder_.store().beat(); });
}

/// Says how an attempt ended, as often as it takes until the lease is over.
bool Worker::finish(const ClaimedJob& work, const AttemptEnd& end) {
  Patience patience(sweep_.run.lease_seconds);
  bool accepted = false;
  for (double pause = 0.1; !patience.try_call([&] { accepted = folder_.store().finish(work.claim, end); }); pause = std::min(5.0, 2 * pause)) {
    if (inbox_.next(pause)) asked_ = true;
  }
  return accepted;
}

void Worker::rest(double seconds) {
  beat();
  if (inbox_.next(seconds)) asked_ = true;
}

bool Worker::over() const {
  return std::all_of(folder_.jobs().begin(), folder_.jobs().end(), [](const JobRecord& job) { return job.ended; });
}

std::optional<ClaimedJob> Worker::find_work() {
  folder_.refresh();
  if (auto lost = folder_.take_over()) return lost;
  const auto next = folder_.planner().next(folder_.jobs());
  finished_ = std::holds_alternative<Planner::Finished>(next) && over();
  const auto* const decision = std::get_if<Decision>(&next);
  return decision != nullptr ? folder_.append(*decision) : std::nullopt;
}

bool Worker::stop_early(const ClaimedJob& work, const std::vector<Outcome::Evaluated>& curve) const {
  std::vector<Curve> others;
  for (const SeenJobs::Run& run : work.decision.seen.runs()) {
    if (run.ends == 0) continue;
    for (std::int64_t job = run.first; job <= run.last; ++job) {
      const auto& outcomes = folder_.jobs()[static_cast<std::size_t>(job)].ends;
      const auto newest = static_cast<std::size_t>(run.ends) - 1;
      if (outcomes.size() > newest && outcomes[newest].has_value()) others.push_back(outcomes[newest].curve);
    }
  }
  return is_below_median(sweep_.stop, others, curve);
}

/// Starts the training and waits for its end. A claim that was lost meanwhile ends it.
Outcome Worker::watch(const ClaimedJob& work) {
  if (sweep_.base && digest_of_base(*sweep_.base) != sweep_.base_digest) {
    throw ConfigError(fmt::format("{} has changed since this sweep began: undo the change, or give it another sweep.dir", sweep_.base->string()));
  }
  const TrialRun run(sweep_, work.decision, folder_.trial_folder(work.decision.trial), work.claim.job, work.claim.attempt);
  run.prepare(folder_.jobs_of(work.decision.trial));
  const double start = now();
  double asked_at = 0, looked_at = start;
  bool timed_out = false, below_median = false;
  Outcome outcome;
  {
    const SessionFolder session;
    ProcessTree tree(run.command(), {{"TMPDIR", session.path().string()}}, run.output().string());
    const bool has_median = sweep_.stop.rule == "median";
    while (!tree.exit_code()) {
      const double slept_at = now();
      const double wait = std::min(sweep_.run.lease_seconds / 6, has_median ? kLookSeconds : sweep_.run.timeout_seconds ? 1.0 : 60.0);
      const auto signal = inbox_.next(wait);
      // Ctrl-C a second time means now; of other signals, a scheduler may send several at once.
      if (signal && std::exchange(asked_, true) && *signal == SIGINT) tree.kill();
      if (asked_ || below_median) {
        if (asked_at == 0 || now() - asked_at >= 1) tree.signal(SIGUSR1);
        if (asked_at == 0) asked_at = now();
        if (now() - asked_at > kGraceSeconds) tree.kill();
      }
      if (tree.is_stuck(now())) tree.kill();   // mpirun, when its ranks have ended
      if (now() - slept_at > sweep_.run.lease_seconds / 2 && !folder_.store().holds(work.claim)) tree.kill();   // it was frozen
      beat();
      if (sweep_.run.timeout_seconds && now() - start > *sweep_.run.timeout_seconds) {
        timed_out = true;
        tree.kill();
      }
      if (has_median && !below_median && now() - looked_at >= kLookSeconds) {
        looked_at = now();
        below_median = stop_early(work, run.curve());
      }
    }
    outcome = run.outcome(*tree.exit_code());
    tree.kill();
  }
  clear_shared_memory();
  outcome.curve = run.curve();
  if (timed_out) {
    outcome.state = Outcome::State::timed_out;
    outcome.why = fmt::format("took longer than {} s", *sweep_.run.timeout_seconds);
  }
  if (below_median && outcome.state == Outcome::State::preempted && !asked_) outcome.state = Outcome::State::stopped;
  if (asked_ && outcome.state == Outcome::State::crashed) outcome.state = Outcome::State::preempted;
  outcome.seconds = now() - start;
  return outcome;
}

void Worker::attempt(const ClaimedJob& work) {
  Outcome outcome;
  try {
    outcome = watch(work);
  } catch (const IoError& error) {   // of this host: another worker may do better, and the attempt is not counted
    outcome.state = Outcome::State::preempted;
    outcome.attempt = work.claim.attempt;
    outcome.why = error.what();
    finish(work, {false, to_json(outcome)});
    throw;
  }
  outcome.attempt = work.claim.attempt;
  const bool again = outcome.state == Outcome::State::preempted ||
                     ((outcome.state == Outcome::State::crashed || outcome.state == Outcome::State::timed_out) &&
                      folder_.attempts_spent(work.claim.job) < sweep_.run.max_attempts);
  if (!finish(work, {!again, to_json(outcome)})) {
    log::warn("trial {}: another worker has taken it over, and its end here is not counted", work.decision.trial);
  }
}

ExitCode Worker::run() {
  double pause = 0.05;
  while (!asked_) {
    beat();
    std::optional<ClaimedJob> work;
    reads_.try_call([&] { work = find_work(); });
    if (work) {
      attempt(*work);
      reads_.renew();
      pause = 0.05;
    } else if (finished_) {
      return ExitCode::done;
    } else {
      rest(pause);
      pause = std::min(kMostRestSeconds, 1.5 * pause);
    }
  }
  return ExitCode::run_again;
}

}  // namespace tugline::sweep
