// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>

#include "tugline/trainers/sweep/space/space.hpp"

namespace tugline::sweep {

/// What a search knows of a trial.
struct Observation {
  std::int64_t number = 0;   ///< of the trial; they come in ascending order, and some may be missing
  Point point;
  double value = std::numeric_limits<double>::quiet_NaN();   ///< to be made small; NaN: still running; infinity: it failed

  bool is_running() const { return std::isnan(value); }
  bool has_failed() const { return std::isinf(value); }
};

/// Chooses what to try next. A suggestion is a pure function of what the search was made with, the trial's number and the history, to the
/// bit, so that anyone can make it again; searches may remember what they have computed, and nothing else. One thread.
class Search {
 public:
  virtual ~Search() = default;
  /// A point of the space that is not forbidden. `history`: other trials; those before `number`, unless it fills a gap.
  virtual Point suggest(std::int64_t number, std::span<const Observation> history) = 0;
};

struct SearchOptions {
  std::string method = "auto";   ///< auto, grid, random, sobol, tpe, gp, regevo
  std::uint64_t seed = 0;
};

/// `space` must outlive it. Throws ConfigError for a method that there is not, or one that cannot search this space.
std::unique_ptr<Search> make_search(const Space& space, const SearchOptions& options);

}  // namespace tugline::sweep
