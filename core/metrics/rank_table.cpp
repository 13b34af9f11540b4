// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/rank_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <tuple>

namespace tugline {
namespace {

constexpr double kNotableWaiting = 0.03;  // of all ranks' time; less is "all pull alike"
constexpr double kSlowSpeed = 0.9;        // of the fastest rank's
constexpr double kMuchData = 0.2;         // of a rank's own time: waiting for the loader
constexpr double kMoreData = 2;           // times the median rank's part
constexpr double kFewCpu = 0.85;          // of the computing time: what the thread had a core for
constexpr double kFewerCpu = 0.9;         // of the best rank's part
constexpr double kMuchExposed = 0.2;      // of a step: communication that nothing hides
constexpr std::size_t kMostRows = 16, kRowsOfEachEnd = 4;

std::string figure(double value) { return value < 99.995 ? fmt::format("{:.2f}", value) : fmt::format("{:.0f}", value); }

double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

}  // namespace

double RankTable::Rank::speed() const { return ratio(samples, busy_seconds()); }
double RankTable::Rank::data_part() const { return ratio(data_seconds, busy_seconds()); }
double RankTable::Rank::cpu_part() const { return ratio(cpu_seconds, compute_seconds); }

void RankTable::step(const StepRecord& record) {
  if (record.ranks.size() != ranks_.size()) reset();
  ranks_.resize(record.ranks.size());
  for (std::size_t r = 0; r < ranks_.size(); ++r) {
    const RankStep& rank = record.ranks[r];
    ranks_[r].samples += static_cast<double>(rank.samples);
    ranks_[r].data_seconds += rank.data_seconds;
    ranks_[r].compute_seconds += rank.compute_seconds;
    ranks_[r].cpu_seconds += rank.cpu_seconds;
    samples_ += static_cast<double>(rank.samples);
  }
  waiting_.add(record);
  steps_ += 1;
  seconds_ += step_seconds(record);
  exposed_seconds_ += record.seconds.exposed;
}

void RankTable::reset() {
  ranks_.clear();
  waiting_ = {};
  steps_ = samples_ = seconds_ = exposed_seconds_ = 0;
}

bool RankTable::somebody_waits() const { return ranks_.size() > 1 && waiting_.share() >= kNotableWaiting; }

bool RankTable::names_hosts() const {
  return hosts_.size() == ranks_.size() && std::any_of(hosts_.begin(), hosts_.end(), [&](const auto& host) { return host != hosts_[0]; });
}

double RankTable::fastest() const {
  double speed = 0;
  for (const Rank& rank : ranks_) speed = std::max(speed, rank.speed());
  return speed;
}

/// Of a rank that is waited for, or slow: what holds it up, as far as the figures tell.
std::string RankTable::why(std::size_t r) const {
  const Rank& rank = ranks_[r];
  const bool slow = rank.samples > 0 && rank.speed() < kSlowSpeed * fastest();
  if (!slow && waiting_.slack_rank(kNotableWaiting) != r) return "";

  std::vector<double> data;
  double best_cpu = 0;
  for (const Rank& one : ranks_) {
    data.push_back(one.data_part());
    best_cpu = std::max(best_cpu, one.cpu_part());
  }
  const auto median = data.begin() + static_cast<std::ptrdiff_t>((data.size() - 1) / 2);   // of two: the smaller
  std::nth_element(data.begin(), median, data.end());
  if (rank.data_part() >= kMuchData && rank.data_part() > kMoreData * *median) return "data";
  if (rank.cpu_part() < kFewCpu && rank.cpu_part() < kFewerCpu * best_cpu) return "stolen CPU";
  if (slow) return "slow core";
  const auto computing = std::count_if(ranks_.begin(), ranks_.end(), [](const Rank& one) { return one.samples > 0; });
  const double mean_share = samples_ / static_cast<double>(std::max<std::ptrdiff_t>(1, computing));
  return rank.samples > (1 + kNotableWaiting) * mean_share ? "large share" : "";
}

std::string RankTable::row(std::size_t r, std::size_t host_width) const {
  const Rank& rank = ranks_[r];
  std::string text = fmt::format("  {:>4}", r);
  if (host_width > 0) text += fmt::format("  {:<{}}", hosts_[r], host_width);
  text += fmt::format("  {:>8.1f} {:>3.0f}%  {:>9}  {:>7}  {:>7}", rank.samples / steps_, 100 * ratio(rank.samples, samples_),
                      rank.samples > 0 ? figure(rank.speed()) : "-", figure(1e3 * rank.busy_seconds() / steps_),
                      figure(1e3 * waiting_.wait_seconds()[r] / steps_));
  const std::string cause = why(r);
  return cause.empty() ? text : text + "  " + cause;
}

std::string RankTable::verdict() const {
  const double waiting = 100 * waiting_.share();
  std::string text;
  if (const auto slack = waiting_.slack_rank(kNotableWaiting)) {
    text = fmt::format("  slack rank {}{}: the others wait for it; waiting takes {:.0f} % of all ranks' time", *slack,
                       names_hosts() ? " on " + hosts_[*slack] : "", waiting);
  } else if (somebody_waits()) {
    text = fmt::format("  no rank is slack for long: waiting takes {:.0f} % of all ranks' time, now for one, now for another", waiting);
  } else {
    text = fmt::format("  all pull alike: waiting takes {:.0f} % of all ranks' time", waiting);
  }
  const double exposed = ratio(exposed_seconds_, seconds_);
  if (exposed >= kMuchExposed) text += fmt::format("\n  communication takes {:.0f} % of a step: the link, not a rank", 100 * exposed);
  return text;
}

/// Who is waited for, then the slowest first; ranks without samples have no speed and come last.
std::vector<std::size_t> RankTable::by_speed() const {
  std::vector<std::size_t> order(ranks_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto slack = waiting_.slack_rank(kNotableWaiting);
  const auto key = [&](std::size_t r) { return std::tuple(slack != r, ranks_[r].samples <= 0, ranks_[r].speed()); };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return key(a) < key(b); });
  return order;
}

std::string RankTable::text() const {
  if (ranks_.size() < 2) return "";
  std::size_t host_width = 0;
  if (names_hosts()) {
    host_width = std::string_view("host").size();
    for (const std::string& host : hosts_) host_width = std::max(host_width, host.size());
  }
  std::string text = "  rank";
  if (host_width > 0) text += fmt::format("  {:<{}}", "host", host_width);
  text += fmt::format("  {:>13}  {:>9}  {:>7}  {:>7}  why\n", "share", "samples/s", "busy ms", "wait ms");

  if (ranks_.size() <= kMostRows) {
    for (std::size_t r = 0; r < ranks_.size(); ++r) text += row(r, host_width) + "\n";
  } else {
    const auto order = by_speed();
    for (std::size_t i = 0; i < kRowsOfEachEnd; ++i) text += row(order[i], host_width) + "\n";
    text += fmt::format("   ... {} more\n", order.size() - 2 * kRowsOfEachEnd);
    for (std::size_t i = order.size() - kRowsOfEachEnd; i < order.size(); ++i) text += row(order[i], host_width) + "\n";
  }
  return text + verdict();
}

}  // namespace tugline
