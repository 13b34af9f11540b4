// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/store/chain.hpp"

#include <fmt/format.h>

#include <utility>

namespace tugline::sweep {

Chain::Chain(std::int64_t number) {
  job_.number = number;
  job_.state = state_;
  job_.attempts = 0;
  job_.length = 0;
}

void Chain::add(std::variant<Entry, Damage> read, double now, const std::function<std::string()>& file) {
  Entry* const entry = std::get_if<Entry>(&read);
  const std::string reason = entry != nullptr ? why_not(*entry) : std::get<Damage>(read).reason;
  if (reason.empty()) {
    take(std::move(*entry), now);
  } else {
    ends_before_ = job_.ends.size();
    state_ = Job::State::damaged;
    job_.damage = fmt::format("{} {}", file(), reason);
    ++job_.attempts;   // it may have been a claim, and no two attempts may have one number
  }
  ++job_.length;
  job_.state = lost_decision_ ? Job::State::damaged : state_;
}

/// No process writes an entry that cannot; a file system that forgets what it had made durable can bring it about.
std::string Chain::why_not(const Entry& entry) const {
  if (entry.kind == Entry::Kind::claim && (entry.decides || entry.voids)) return {};
  if (job_.length == 0) return "does not begin the job";
  if (state_ == Job::State::damaged) return {};
  switch (entry.kind) {
    case Entry::Kind::claim:
      return state_ == Job::State::ended ? "claims a job that has ended" : "";
    case Entry::Kind::end:
      if (state_ != Job::State::running) return "ends an attempt of a job that nobody holds";
      if (entry.worker == job_.worker && entry.attempt == job_.attempts) return {};
      return fmt::format("ends attempt {} of {}, but {} holds the job for attempt {}", entry.attempt, entry.worker, job_.worker,
                         job_.attempts);
    case Entry::Kind::reopen:
      return state_ == Job::State::ended ? "" : "reopens a job that has not ended";
  }
  return {};
}

void Chain::take(Entry entry, double now) {
  if (entry.kind == Entry::Kind::claim && entry.voids) job_.ends.resize(ends_before_);
  ends_before_ = job_.ends.size();
  job_.attempts = entry.attempt;
  switch (entry.kind) {
    case Entry::Kind::claim:
      take_claim(entry, now);
      break;
    case Entry::Kind::end:
      job_.worker = std::move(entry.worker);
      job_.ends.push_back({.final = entry.final, .content = std::move(entry.content)});
      state_ = entry.final ? Job::State::ended : Job::State::open;
      break;
    case Entry::Kind::reopen:
      state_ = Job::State::open;
      break;
  }
}

void Chain::take_claim(Entry& entry, double now) {
  if (entry.decides) {
    job_.decision = std::move(entry.content);
    job_.ends.clear();
    lost_decision_ = false;
  }
  job_.worker = std::move(entry.worker);
  claim_seen_ = now;
  claim_lease_ = entry.lease_seconds;
  state_ = Job::State::running;
}

}  // namespace tugline::sweep
