// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/sweep_folder.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"
#include "tugline/trainers/sweep/store/files.hpp"

namespace tugline::sweep {
namespace {

/// The sections that are not the same; sweep.base_digest: what the base says.
std::vector<std::string> differences(const std::string& there, const std::string& mine) {
  namespace json = boost::json;
  try {
    const json::object other = json::parse(there).as_object(), ours = json::parse(mine).as_object();
    std::vector<std::string> names;
    for (const auto& [name, value] : ours) {
      const json::value* const theirs = other.if_contains(name);
      if (theirs != nullptr && *theirs == value) continue;
      if (name != "sweep" || theirs == nullptr) {
        names.emplace_back(name);
        continue;
      }
      for (const auto& [key, part] : value.as_object()) {
        const json::value* const other_part = theirs->as_object().if_contains(key);
        if (other_part != nullptr && *other_part == part) continue;
        names.push_back(key == "base_digest" ? "what sweep.base says" : "sweep." + std::string(key));
      }
    }
    return names;
  } catch (const std::exception&) {
    return {"a sweep.json that cannot be read"};
  }
}

void require_same(const std::filesystem::path& file, const std::string& mine) {
  const auto there = real_files().read(file);
  if (!there || *there == mine + "\n") return;
  throw ConfigError(fmt::format("{}: that folder holds another sweep (what differs: {}); give this one another sweep.dir, or undo the change",
                                file.string(), fmt::join(differences(*there, mine), ", ")));
}

}  // namespace

SweepFolder::SweepFolder(const SweepConfig& sweep)
    : sweep_(sweep), description_(to_json(sweep)),
      store_(real_files(), sweep.dir, {.worker = make_worker_id(), .lease_seconds = sweep.run.lease_seconds}), planner_(sweep) {
  require_same(sweep.dir / "sweep.json", description_);
}

void SweepFolder::claim() {
  Files& files = real_files();
  const auto file = sweep_.dir / "sweep.json";
  if (!files.exists(file)) {
    store_.refresh();
    if (store_.size() > 0 && !files.exists(file)) {
      throw ConfigError(fmt::format("{}: there are jobs in this folder, but no sweep.json that says of which sweep; give this one another sweep.dir",
                                    sweep_.dir.string()));
    }
    files.make_folder(sweep_.dir);
    const auto temporary = sweep_.dir / fmt::format("sweep.json.{}.tmp", make_worker_id());
    files.write_new(temporary, description_ + "\n");
    const int failure = files.link(temporary, file);
    files.remove(temporary);
    if (failure != 0 && !files.exists(file)) throw IoError(fmt::format("{}: cannot be made ({})", file.string(), std::strerror(failure)));
  }
  require_same(file, description_);
}

void SweepFolder::refresh() {
  store_.refresh();
  for (std::int64_t number = 0; number < store_.size(); ++number) {
    const Job& job = store_.job(number);
    const auto at = static_cast<std::size_t>(number);
    const Version version{job.state, job.length, !job.decision.empty()};
    if (at < jobs_.size() && versions_[at] == version) continue;
    JobRecord record;
    record.decision = job.decision.empty() ? lost_decision() : decision_from_json(sweep_.space, job.decision);
    for (const AttemptEnd& end : job.ends) {
      if (end.final) record.ends.push_back(outcome_from_json(end.content));
    }
    record.ended = job.state == Job::State::ended;
    if (at == jobs_.size()) {
      jobs_.push_back(std::move(record));
      versions_.push_back(version);
    } else {
      jobs_[at] = std::move(record);
      versions_[at] = version;
    }
  }
}

void SweepFolder::give_up(const Claim& claim, const std::string& why) {
  Outcome lost;
  lost.state = Outcome::State::lost;
  lost.attempt = claim.attempt;
  lost.why = why;
  store_.finish(claim, {true, to_json(lost)});
  refresh();
}

/// In two steps, of which any process may make either: all wait for the end, nobody for a lease.
void SweepFolder::end_lost(std::int64_t number) {
  auto claim = store_.newest_claim(number);
  if (store_.job(number).decision.empty()) claim = store_.take_over(number, to_json(sweep_.space, lost_decision()));
  if (claim) give_up(*claim, "its decision cannot be read; what it decided is decided again");
}

std::optional<ClaimedJob> SweepFolder::take_over(std::optional<double> lease_seconds) {
  for (std::int64_t number = 0; number < static_cast<std::int64_t>(jobs_.size()); ++number) {
    const auto at = static_cast<std::size_t>(number);   // no reference: give_up() reads anew
    if (jobs_[at].ended) continue;
    if (jobs_[at].decision.is_lost()) {
      end_lost(number);
      continue;
    }
    if (!store_.can_be_taken(number)) continue;
    const int spent = attempts_spent(number);
    const bool gives_up = spent >= sweep_.run.max_attempts;
    const auto claim = store_.take_over(number, gives_up ? std::nullopt : lease_seconds);
    if (!claim) continue;
    if (!gives_up) return ClaimedJob{*claim, jobs_[at].decision};
    give_up(*claim, fmt::format("{} attempts failed or were lost", spent));
  }
  return std::nullopt;
}

std::optional<ClaimedJob> SweepFolder::append(const Decision& decision, std::optional<double> lease_seconds) {
  const auto claim = store_.append(static_cast<std::int64_t>(jobs_.size()), to_json(sweep_.space, decision), lease_seconds);
  return claim ? std::optional(ClaimedJob{*claim, decision}) : std::nullopt;
}

std::vector<std::int64_t> SweepFolder::jobs_of(std::int64_t trial) const {
  std::vector<std::int64_t> numbers;
  for (std::size_t j = 0; j < jobs_.size(); ++j) {
    if (jobs_[j].decision.trial == trial) numbers.push_back(static_cast<std::int64_t>(j));
  }
  return numbers;
}

std::filesystem::path SweepFolder::trial_folder(std::int64_t trial) const { return sweep_.dir / "trials" / fmt::format("{:06}", trial); }

int SweepFolder::attempts_spent(std::int64_t number) const {
  const Job& job = store_.job(number);
  int spared = 0;   // attempts before the job was opened again, and those that were preempted since
  for (const AttemptEnd& end : job.ends) {
    const Outcome outcome = outcome_from_json(end.content);
    if (end.final) spared = outcome.attempt;
    else if (outcome.state == Outcome::State::preempted) ++spared;
  }
  return job.attempts - spared;
}

}  // namespace tugline::sweep
