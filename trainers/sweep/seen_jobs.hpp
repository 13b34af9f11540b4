// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tugline::sweep {

/// Which jobs a decision knew the end of, and of each how many final ends it has had: more than one after `sweep retry`, none of one whose own
/// decision was lost. Kept as runs of numbers: each of ten thousand decisions may have known all before it.
class SeenJobs {
 public:
  struct Run {
    std::int64_t first = 0, last = 0;
    int ends = 1;
    bool operator==(const Run&) const = default;
  };
  SeenJobs() = default;
  SeenJobs(std::initializer_list<std::pair<std::int64_t, int>> jobs) {
    for (const auto& [job, ends] : jobs) add(job, job, ends);
  }

  /// Jobs first .. last, above all that are there.
  void add(std::int64_t first, std::int64_t last, int ends);
  int ends_of(std::int64_t job) const;   ///< 0: it was not known to have ended, or known to be lost
  bool knows_lost(std::int64_t job) const { return run_of(job) != nullptr && run_of(job)->ends == 0; }
  const std::vector<Run>& runs() const { return runs_; }   ///< ascending
  bool operator==(const SeenJobs&) const = default;

 private:
  const Run* run_of(std::int64_t job) const;

  std::vector<Run> runs_;
};

std::string to_text(const SeenJobs& seen);               ///< "0-57 59 61x2"
SeenJobs seen_jobs_from_text(std::string_view text);     ///< throws DataError

}  // namespace tugline::sweep
