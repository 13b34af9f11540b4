// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/waiting.hpp"

#include <algorithm>
#include <numeric>

namespace tugline {
namespace {

// So much of the waiting must be explained by one rank being late step after step.
constexpr double kSteady = 0.5;

double sum(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

}  // namespace

double step_seconds(const StepRecord& record) {
  if (record.samples_per_second > 0) return static_cast<double>(record.samples) / record.samples_per_second;
  const StepRecord::Seconds& seconds = record.seconds;
  return seconds.data + seconds.compute + seconds.exposed + seconds.wait + seconds.optimizer;
}

void Waiting::add(const StepRecord& record, double keep) {
  const std::size_t ranks = std::max<std::size_t>(1, record.ranks.size());
  if (ranks != busy_.size()) {
    busy_.assign(ranks, 0);
    wait_.assign(ranks, 0);
    samples_.assign(ranks, 0);
    rank_seconds_ = 0;
  }
  const double seconds = step_seconds(record);
  double longest = 0;
  for (const RankStep& rank : record.ranks) longest = std::max(longest, rank.busy_seconds());
  for (std::size_t r = 0; r < ranks; ++r) {
    const double busy = r < record.ranks.size() ? record.ranks[r].busy_seconds() : 0;
    double wait = ranks > 1 ? longest - busy : record.seconds.wait;
    if (ranks > 1 && record.staleness) wait = record.ranks[r].waited_seconds;
    busy_[r] = keep * busy_[r] + busy;
    samples_[r] = keep * samples_[r] + (r < record.ranks.size() ? static_cast<double>(record.ranks[r].samples) : 0);
    wait_[r] = keep * wait_[r] + (record.staleness ? wait : std::min(wait, seconds));   // a piece may last longer than a step
  }
  rank_seconds_ = keep * rank_seconds_ + static_cast<double>(ranks) * seconds;
}

double Waiting::share() const { return rank_seconds_ > 0 ? sum(wait_) / rank_seconds_ : 0; }

std::optional<std::size_t> Waiting::slack_rank(double least) const {
  if (busy_.size() < 2 || share() < least) return std::nullopt;
  const auto longest = std::max_element(busy_.begin(), busy_.end());
  const auto idle = std::count(samples_.begin(), samples_.end(), 0.0);   // have no part in steps: nobody makes them wait
  const double steady = static_cast<double>(std::ssize(busy_) - idle) * *longest - sum(busy_);
  if (steady < kSteady * sum(wait_)) return std::nullopt;
  return static_cast<std::size_t>(longest - busy_.begin());
}

}  // namespace tugline
