// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/seen_jobs.hpp"

#include <charconv>

#include <fmt/format.h>

#include "tugline/core/error.hpp"

namespace tugline::sweep {

std::string to_text(const SeenJobs& seen) {
  std::string text;
  for (auto first = seen.begin(); first != seen.end();) {
    auto last = first, next = std::next(first);
    while (next != seen.end() && next->first == last->first + 1 && next->second == first->second) last = next++;
    text += fmt::format("{}{}", text.empty() ? "" : " ", first->first);
    if (last != first) text += fmt::format("-{}", last->first);
    if (first->second != 1) text += fmt::format("x{}", first->second);
    first = next;
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
    for (std::int64_t job = first; job <= last; ++job) seen[job] = ends;
    if (at != end && !take(' ')) throw DataError(fmt::format("'{}' is no list of jobs", text));
  }
  return seen;
}

}  // namespace tugline::sweep
