// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <variant>

#include "tugline/trainers/sweep/store/entry.hpp"
#include "tugline/trainers/sweep/store/trial_store.hpp"

namespace tugline::sweep {

/// What the entries of a job, read one after the other, come to. A pure function of the entries, so that all who read them agree.
class Chain {
 public:
  explicit Chain(std::int64_t number);

  /// The next entry, or what is wrong with it. `now` on the reader's clock; `file` names what holds it.
  void add(std::variant<Entry, Damage> read, double now, const std::function<std::string()>& file);

  const Job& job() const { return job_; }
  /// Nobody can read the decision any more: only a claim that brings a new one goes on.
  bool has_lost_decision() const { return lost_decision_; }
  /// The entry at the end cannot be read.
  bool ends_damaged() const { return state_ == Job::State::damaged; }
  /// Of the newest claim: when this process first saw it, and its own lease.
  double claim_seen() const { return claim_seen_; }
  std::optional<double> claim_lease() const { return claim_lease_; }

 private:
  /// Empty, or why this entry cannot come after those before it.
  std::string why_not(const Entry& entry) const;
  void take(Entry entry, double now);
  void take_claim(Entry& entry, double now);

  Job job_;
  Job::State state_ = Job::State::open;   // by the entries alone; job_.state also knows of a lost decision
  bool lost_decision_ = true;
  std::size_t ends_before_ = 0;           // before the newest entry
  double claim_seen_ = 0;
  std::optional<double> claim_lease_;
};

}  // namespace tugline::sweep
