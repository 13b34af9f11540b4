// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <string_view>

#include "tugline/core/metrics/json_text.hpp"
#include "tugline/trainers/doctor/speed_verdict.hpp"

namespace tugline {
namespace {

namespace json = boost::json;

constexpr std::size_t kAllShown = 32, kSlowestShown = 8, kFastestShown = 4;

std::string line_of(const SpeedRow& row, std::size_t host_width) {
  std::string line =
      fmt::format("{:>4}  {:<{}}  {:>18.1f}  {:>11.1f}  {:>5.2f}  {:>10.2f}  {:>4.2f}  {}", row.facts.rank, row.facts.host,
                  host_width, 1e-9 * row.facts.arithmetic.per_second, 1e-9 * row.facts.memory.per_second, row.speed,
                  row.steadiness, row.facts.cpu_share, row.why);
  return line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
}

json::object rounds_json(const RoundFacts& facts, std::string_view amount, double relative) {
  return {{amount, 1e-9 * facts.per_second},  {"relative", relative},         {"rounds", facts.rounds},
          {"median_s", facts.median_seconds}, {"best_s", facts.best_seconds}, {"p90_s", facts.p90_seconds}};
}

}  // namespace

std::string speed_text(const SpeedVerdict& verdict) {
  std::vector<const SpeedRow*> rows;
  for (const SpeedRow& row : verdict.rows) rows.push_back(&row);
  const bool all_shown = rows.size() <= kAllShown;
  if (!all_shown)
    std::stable_sort(rows.begin(), rows.end(), [](const SpeedRow* a, const SpeedRow* b) { return a->speed < b->speed; });
  std::size_t host_width = 4;
  for (const SpeedRow* row : rows) host_width = std::max(host_width, row->facts.host.size());

  std::string text =
      fmt::format("rank  {:<{}}  arithmetic GFLOP/s  memory GB/s  speed  p90/median   cpu  why\n", "host", host_width);
  const std::size_t fastest_begin = rows.size() - std::min(rows.size(), kFastestShown);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (all_shown || i < kSlowestShown || i >= fastest_begin) {
      text += line_of(*rows[i], host_width);
    } else if (i == kSlowestShown) {
      text += fmt::format("      {} more ranks run at {:.2f} to {:.2f}\n", fastest_begin - i, rows[i]->speed,
                          rows[fastest_begin - 1]->speed);
    }
  }
  text += verdict.sentence + "\n";
  for (const std::string& advice : verdict.advice) text += "  -> " + advice + "\n";
  return text;
}

std::string speed_json(const SpeedVerdict& verdict) {
  json::array ranks;
  for (const SpeedRow& row : verdict.rows) {
    ranks.push_back({{"rank", row.facts.rank},
                     {"host", row.facts.host},
                     {"speed", row.speed},
                     {"steadiness", row.steadiness},
                     {"cpu", row.facts.cpu_share},
                     {"why", row.why},
                     {"arithmetic", rounds_json(row.facts.arithmetic, "gflop_per_s", row.speed)},
                     {"memory", rounds_json(row.facts.memory, "gb_per_s", row.memory_speed)}});
  }
  return json_pretty(json::object{{"status", verdict.good ? "ok" : "fail"},
                                  {"verdict", verdict.sentence},
                                  {"advice", json::value_from(verdict.advice)},
                                  {"lost", verdict.lost},
                                  {"ranks", std::move(ranks)}});
}

}  // namespace tugline
