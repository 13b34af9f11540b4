// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/step_records.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/parallel/communicator.hpp"

namespace tugline {

/// Doubles only, so that it is the same bytes everywhere.
struct StepRecords::Record {
  double weight, loss_sum, correct, counted, samples, stop, save, data_seconds, compute_seconds, cpu_seconds, finite, squares;
};

StepRecords::StepRecords(Communicator& control)
    : control_(control), records_(static_cast<std::size_t>(control.size()) * sizeof(Record) / sizeof(double)) {}

StepSums StepRecords::exchange(const StepPart& mine) {
  const StepReport& report = mine.report;
  const Record record{report.weight, report.loss_sum, report.correct, report.counted, static_cast<double>(mine.samples),
                      static_cast<double>(report.stop), static_cast<double>(report.save), report.data_seconds, report.compute_seconds,
                      report.cpu_seconds, static_cast<double>(mine.finite), mine.squares};
  control_.all_gather(&record, sizeof record, records_.data());

  StepSums sums;
  StepFacts& facts = sums.facts;
  GlobalStep& step = facts.steps.emplace_back();
  std::vector<StepReport> reports;
  for (int r = 0; r < control_.size(); ++r) {
    Record one{};
    std::memcpy(&one, records_.data() + static_cast<std::size_t>(r) * sizeof(Record) / sizeof(double), sizeof one);
    reports.push_back({.weight = one.weight, .loss_sum = one.loss_sum, .correct = one.correct, .counted = one.counted});
    step.ranks.push_back({static_cast<std::int64_t>(one.samples), one.data_seconds, one.compute_seconds, one.cpu_seconds});
    facts.stop = std::max(facts.stop, static_cast<StopReason>(one.stop));
    facts.save = facts.save || one.save != 0;
    if (!std::isfinite(one.loss_sum) && facts.nonfinite_rank < 0) facts.nonfinite_rank = r;
    sums.weights.push_back(one.weight);
    sums.finite = sums.finite && one.finite != 0;
    sums.squares += one.squares;
    sums.largest_squares = std::max(sums.largest_squares, one.squares);
    sums.slowest_seconds = std::max(sums.slowest_seconds, step.ranks.back().busy_seconds());
  }
  const StepReport sum = add_pairwise(std::move(reports));
  step.weight = sum.weight;
  step.correct = sum.correct;
  step.counted = sum.counted;
  step.loss = sum.weight > 0 ? sum.loss_sum / sum.weight : 0;
  step.nonfinite_rank = facts.nonfinite_rank;
  step.finite = facts.finite = facts.nonfinite_rank < 0;
  facts.data_seconds = report.data_seconds;
  facts.compute_seconds = report.compute_seconds;
  facts.wait_seconds = sums.slowest_seconds - report.data_seconds - report.compute_seconds;
  return sums;
}

void observe_shares(ShareRule& rule, const Piece& piece, StepFacts& facts) {
  if (!facts.finite) return;
  const auto shares = rule.shares(piece);
  const auto& ranks = facts.steps.front().ranks;
  for (std::size_t r = 0; r < shares.size(); ++r) {
    if (ranks[r].samples == shares[r]) continue;
    throw Error(fmt::format("step {}: rank {} took {} samples and was to take {}: ranks cut the batch differently", piece.step + 1, r,
                            ranks[r].samples, shares[r]));
  }
  if (auto change = rule.observe(piece, ranks)) facts.share_change = std::move(change);
}

}  // namespace tugline
