// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/doctor/speed_verdict.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tugline/core/cpu.hpp"

namespace tugline {
namespace {

constexpr double kSlow = 0.9;        // of the fastest; less is a straggler
constexpr double kSlowMemory = 0.8;  // of the fastest; the cores of a host share its memory, so figures differ more
constexpr double kOwnCore = 0.9;     // CPU time / wall time; less is a core that others use too, or a quota
constexpr double kUnsteady = 1.2;    // p90 / best round; a steady core shows 1.1

std::string why_slow(const SpeedRow& row) {
  if (row.facts.cpu_share < kOwnCore) return "stolen CPU";
  if (row.speed < kSlow) return "slow core";
  return row.memory_speed < kSlowMemory ? "memory" : "";
}

std::vector<SpeedRow> rows_of(const std::vector<SpeedFacts>& ranks) {
  double most_arithmetic = 1e-9, most_memory = 1e-9;
  for (const SpeedFacts& rank : ranks) {
    most_arithmetic = std::max(most_arithmetic, rank.arithmetic.per_second);
    most_memory = std::max(most_memory, rank.memory.per_second);
  }
  std::vector<SpeedRow> rows;
  for (const SpeedFacts& rank : ranks) {
    SpeedRow& row = rows.emplace_back(SpeedRow{.facts = rank});
    row.speed = rank.arithmetic.per_second / most_arithmetic;
    row.memory_speed = rank.memory.per_second / most_memory;
    row.steadiness = rank.arithmetic.p90_seconds / std::max(rank.arithmetic.median_seconds, 1e-9);
    row.why = why_slow(row);
  }
  return rows;
}

template <class Condition>
std::vector<int> ranks_where(const std::vector<SpeedRow>& rows, Condition condition) {
  std::vector<int> ranks;
  for (const SpeedRow& row : rows) {
    if (condition(row)) ranks.push_back(row.facts.rank);
  }
  return ranks;
}

/// Not robbed, and yet its rounds differ: a clock that changes, or a neighbour that only the hypervisor sees.
bool unsteady(const SpeedRow& row) {
  const RoundFacts& rounds = row.facts.arithmetic;
  return row.facts.cpu_share >= kOwnCore && rounds.p90_seconds > kUnsteady * rounds.best_seconds;
}

/// "rank 3", "ranks 0-2"
std::string named(const std::vector<int>& ranks) {
  return fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", core_list(ranks));
}

std::string sentence_of(const SpeedVerdict& verdict, const SpeedRow& slowest) {
  if (verdict.rows.size() == 1) return "one rank: there is none to compare it with";
  if (verdict.good) {
    const int percent = static_cast<int>(std::ceil(100 * (1 - slowest.speed) - 1e-6));
    return fmt::format("all ranks are within {} %", std::max(percent, 5));
  }
  return fmt::format(
      "rank {} on host {} runs at {:.2f} of the fastest: with equal shares every step waits for it and {:.0f} % of all "
      "ranks' time is lost",
      slowest.facts.rank, slowest.facts.host, slowest.speed, 100 * verdict.lost);
}

std::vector<std::string> advice_for(const SpeedVerdict& verdict, const SpeedRow& slowest) {
  std::vector<std::string> advice;
  const auto others = ranks_where(
      verdict.rows, [&](const SpeedRow& row) { return row.speed < kSlow && row.facts.rank != slowest.facts.rank; });
  if (!others.empty())
    advice.push_back(fmt::format("{} {} below {:.1f} too", named(others), others.size() == 1 ? "is" : "are", kSlow));
  const auto robbed = ranks_where(verdict.rows, [](const SpeedRow& row) { return row.facts.cpu_share < kOwnCore; });
  if (!robbed.empty()) {
    advice.push_back(fmt::format("{} {} not get a core of {} own: tugline doctor shows binding, limits and load",
                                 named(robbed), robbed.size() == 1 ? "does" : "do", robbed.size() == 1 ? "its" : "their"));
  }
  const auto moody = ranks_where(verdict.rows, unsteady);
  if (!verdict.good && !moody.empty()) {
    advice.push_back(
        fmt::format("{} changed pace while being measured: run this again before you believe it", named(moody)));
  }
  if (!verdict.good) advice.push_back("parallel.balance.mode: adaptive gives each rank its share");
  const auto starved = ranks_where(verdict.rows, [](const SpeedRow& row) { return row.why == "memory"; });
  if (!starved.empty()) {
    advice.push_back(fmt::format("{} {} as fast as others until the data outgrows the caches", named(starved),
                                 starved.size() == 1 ? "is" : "are"));
  }
  return advice;
}

}  // namespace

SpeedVerdict judge_speeds(const std::vector<SpeedFacts>& ranks) {
  SpeedVerdict verdict{.rows = rows_of(ranks)};
  const SpeedRow& slowest = *std::min_element(verdict.rows.begin(), verdict.rows.end(),
                                              [](const SpeedRow& a, const SpeedRow& b) { return a.speed < b.speed; });
  // With equal shares each rank does as much as the slowest; at its own pace it would do as much as its speed.
  double possible = 0;
  for (const SpeedRow& row : verdict.rows) possible += row.speed;
  verdict.lost = possible > 0 ? 1 - static_cast<double>(ranks.size()) * slowest.speed / possible : 0;
  verdict.good = slowest.speed >= kSlow;
  verdict.sentence = sentence_of(verdict, slowest);
  verdict.advice = advice_for(verdict, slowest);
  return verdict;
}

}  // namespace tugline
