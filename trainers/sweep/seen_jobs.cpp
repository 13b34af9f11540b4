// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/seen_jobs.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>

#include <fmt/format.h>

#include "tugline/core/error.hpp"

namespace tugline::sweep {

void SeenJobs::add(std::int64_t first, std::int64_t last, int ends) {
  if (!runs_.empty() && runs_.back().last + 1 == first && runs_.back().ends == ends) runs_.back().last = last;
  else runs_.push_back({first, last, ends});
}

const SeenJobs::Run* SeenJobs::run_of(std::int64_t job) const {
  const auto after = std::upper_bound(runs_.begin(), runs_.end(), job, [](std::int64_t number, const Run& run) { return number < run.first; });
  return after != runs_.begin() && job <= std::prev(after)->last ? &*std::prev(after) : nullptr;
}

int SeenJobs::ends_of(std::int64_t job) const {
  const Run* const run = run_of(job);
  return run != nullptr ? run->ends : 0;
}

std::string to_text(const SeenJobs& seen) {
  std::string text;
  for (const SeenJobs::Run& run : seen.runs()) {
    text += fmt::format("{}{}", text.empty() ? "" : " ", run.first);
    if (run.last != run.first) text += fmt::format("-{}", run.last);
    if (run.ends != 1) text += fmt::format("x{}", run.ends);
  }
  return text;
}

SeenJobs seen_jobs_from_text(std::string_view text) {
  SeenJobs seen;
  const char *at = text.data(), *const end = at + text.size();
  const auto number = [&] {
    std::int64_t value = 0;
    const auto [rest, failed] = std::from_chars(at, end, value);
    if (failed != std::errc()) throw DataError(fmt::format("'{}' is no list of jobs", text));
    at = rest;
    return value;
  };
  const auto take = [&](char wanted) { return at != end && *at == wanted && ++at; };
  while (at != end) {
    const std::int64_t first = number(), last = take('-') ? number() : first;
    const int ends = take('x') ? static_cast<int>(number()) : 1;
    const bool above = first <= last && (seen.runs().empty() || first > seen.runs().back().last);
    if (!above || ends < 0) throw DataError(fmt::format("'{}' is no list of jobs", text));
    seen.add(first, last, ends);
    if (at != end && !take(' ')) throw DataError(fmt::format("'{}' is no list of jobs", text));
  }
  return seen;
}

}  // namespace tugline::sweep
