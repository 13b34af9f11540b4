// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/async/step_book.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace tugline {
namespace {

void add_to(RankStep& sum, const RankStep& part) {
  sum.samples += part.samples;
  sum.data_seconds += part.data_seconds;
  sum.compute_seconds += part.compute_seconds;
  sum.cpu_seconds += part.cpu_seconds;
  sum.waited_seconds += part.waited_seconds;
}

}  // namespace

StepBook::StepBook(StepPlan plan, Schedule schedule, Options options)
    : plan_(plan), schedule_(schedule), options_(options), next_step_(options.first_step), pieces_(options.first_step * options.pieces_per_step),
      since_(static_cast<std::size_t>(options.ranks)) {}

void StepBook::add(const PieceRecord& record) {
  open_[record.piece / options_.pieces_per_step][record.piece] = record;
  ++pieces_;
}

std::vector<GlobalStep> StepBook::take_finished(std::int64_t staleness_bound) {
  std::vector<GlobalStep> finished;
  for (auto next = open_.find(next_step_); next != open_.end() && std::ssize(next->second) == options_.pieces_per_step; next = open_.find(next_step_)) {
    finished.push_back(finish(next_step_, next->second));
    finished.back().staleness->bound = staleness_bound;
    for (std::size_t r = 0; r < since_.size(); ++r) add_to(since_[r], finished.back().ranks[r]);
    open_.erase(next);
    ++next_step_;
  }
  return finished;
}

GlobalStep StepBook::finish(std::int64_t step, const std::map<std::int64_t, PieceRecord>& pieces) const {
  GlobalStep done;
  done.piece = plan_.global_piece(step);
  done.lr = schedule_.lr(step) * rate_factor(pieces);
  done.ranks.resize(static_cast<std::size_t>(options_.ranks));
  done.staleness.emplace();
  std::vector<StepReport> reports;
  for (const auto& [number, record] : pieces) {
    const StepReport& report = record.report;
    add_to(done.ranks[static_cast<std::size_t>(record.rank)], {record.samples, report.data_seconds, report.compute_seconds, report.cpu_seconds, record.waited_seconds});
    if (record.dropped) {
      done.finite = false;
      const bool lower = done.nonfinite_rank < 0 || record.rank < done.nonfinite_rank;
      if (!std::isfinite(report.loss_sum) && lower) done.nonfinite_rank = record.rank;
      continue;
    }
    reports.push_back(report);
    for (std::size_t r = 0; r < record.read.size(); ++r) done.staleness->add(record.applied[r] - 1 - record.read[r]);
  }
  const StepReport sum = add_pairwise(std::move(reports));
  done.made = done.finite || sum.weight > 0;
  done.weight = sum.weight;
  done.loss = sum.weight > 0 ? sum.loss_sum / sum.weight : done.finite ? 0 : std::nan("");
  done.correct = sum.correct;
  done.counted = sum.counted;
  return done;
}

/// What staleness has left of the learning rate, as a mean over pieces and ranges.
double StepBook::rate_factor(const std::map<std::int64_t, PieceRecord>& pieces) const {
  if (options_.staleness_power == 0) return 1;
  double sum = 0;
  std::int64_t count = 0;
  for (const auto& [number, record] : pieces) {
    for (std::size_t r = 0; r < record.read.size() && !record.dropped; ++r, ++count) {
      sum += staleness_factor(record.applied[r] - 1 - record.read[r], options_.pieces_per_step, options_.staleness_power);
    }
  }
  return count > 0 ? sum / static_cast<double>(count) : 1;
}

double StepBook::take_speed_ratio() {
  double fastest = 0, slowest = 0;
  for (const RankStep& rank : std::exchange(since_, std::vector<RankStep>(since_.size()))) {
    if (rank.samples == 0) continue;
    const double seconds = rank.busy_seconds() / static_cast<double>(rank.samples);
    fastest = fastest == 0 ? seconds : std::min(fastest, seconds);
    slowest = std::max(slowest, seconds);
  }
  return fastest > 0 ? slowest / fastest : 0;
}

}  // namespace tugline
