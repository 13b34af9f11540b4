// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tugline/trainers/sweep/outcome.hpp"
#include "tugline/trainers/sweep/seen_jobs.hpp"
#include "tugline/trainers/sweep/space/space.hpp"

namespace tugline::sweep {

/// What a job is to do, and what was known when that was decided.
struct Decision {
  std::int64_t trial = 0;     ///< -1: the decision was lost, and so the job does nothing
  int rung = 0;               ///< asha: 0 for a new trial, more for one that goes on
  std::int64_t until = 0;     ///< epochs to have done at its end; 0: all
  std::int64_t budget = 0;    ///< trials of the sweep, then
  SeenJobs seen;
  Point point;

  bool is_lost() const { return trial < 0; }
};
/// What takes the place of one that cannot be read.
inline Decision lost_decision() { return {.trial = -1, .rung = -1, .seen = {}, .point = {}}; }

std::string to_json(const Space& space, const Decision& decision);   ///< one line
/// Throws DataError when it is no decision of a sweep of this space.
Decision decision_from_json(const Space& space, std::string_view json);

/// A job as planners see it.
struct JobRecord {
  Decision decision;
  std::vector<Outcome> ends;   ///< final ones, oldest first
  bool ended = false;          ///< and it has not been reopened since

  const Outcome* outcome() const { return ended && !ends.empty() ? &ends.back() : nullptr; }
};

}  // namespace tugline::sweep
