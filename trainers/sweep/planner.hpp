// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "tugline/trainers/sweep/decision.hpp"
#include "tugline/trainers/sweep/search/search.hpp"
#include "tugline/trainers/sweep/successive_halving.hpp"

namespace tugline::sweep {

/// Decides what the next job is. A decision is a pure function of the sweep's file and of the jobs before it, as far as they have ended, to
/// the bit; so any process can make it, and make it again. One thread.
class Planner {
 public:
  /// `sweep` must outlive it. Throws ConfigError when the method cannot search the space.
  explicit Planner(const SweepConfig& sweep);

  struct Wait {};       ///< until more jobs have ended
  struct Finished {};   ///< there will be no more jobs
  using Next = std::variant<Decision, Wait, Finished>;
  /// The job with number jobs.size().
  Next next(std::span<const JobRecord> jobs);
  /// Trials there will be: the budget, or less where a grid has no more.
  std::int64_t trials() const { return trials_; }

 private:
  friend class Replay;
  Next decide(std::span<const JobRecord> jobs, std::int64_t budget);
  Next go_on(std::span<const JobRecord> jobs, std::size_t known, std::int64_t budget) const;
  Point suggest(std::int64_t trial, std::span<const JobRecord> jobs, std::size_t known);
  std::vector<Observation> history(std::span<const JobRecord> jobs, std::size_t known) const;

  const SweepConfig& sweep_;
  SuccessiveHalving halving_;
  bool halves_;
  std::int64_t trials_;
  std::unique_ptr<Search> search_;
};

/// Makes decisions again, from the first one on, each from what it says it knew.
class Replay {
 public:
  /// Both must outlive it.
  Replay(Planner& planner, std::span<const JobRecord> jobs) : planner_(planner), jobs_(jobs) {}

  /// What the next job's decision comes to; Wait or Finished: it should not have been made; nullopt: it was lost, or knew one that has been
  /// lost since.
  std::optional<Planner::Next> next();

 private:
  void go_back_to(const Decision& made);

  Planner& planner_;
  std::span<const JobRecord> jobs_;
  std::vector<JobRecord> then_;   // the jobs before the next, as they stood when it was decided
};

}  // namespace tugline::sweep
