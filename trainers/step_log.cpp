// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/step_log.hpp"

#include <algorithm>

#include <boost/json.hpp>

namespace tugline {

void StepLog::spend(const StepFacts& facts) {
  if (!unfinished_) {
    spent_ = {};
    bytes_ = 0;
  }
  StepRecord::Seconds& sum = spent_;
  sum = {sum.data + facts.data_seconds, sum.compute + facts.compute_seconds, sum.exposed + facts.exposed_seconds, sum.wait + facts.wait_seconds,
         sum.optimizer + facts.optimizer_seconds};
  bytes_ += facts.bytes_sent;
  unfinished_ = facts.steps.empty();
  const auto steps = static_cast<double>(facts.steps.size());
  if (steps < 2) return;
  sum = {sum.data / steps, sum.compute / steps, sum.exposed / steps, sum.wait / steps, sum.optimizer / steps};
  bytes_ /= std::ssize(facts.steps);
}

void StepLog::record(const GlobalStep& step, double seconds) {
  StepRecord record;
  record.epoch = step.piece.epoch + 1;
  record.step = step.piece.step + 1;
  record.total_steps = total_steps_;
  record.loss = step.loss;
  if (step.counted > 0) record.accuracy = step.correct / step.counted;
  record.lr = step.lr;
  if (clips_ && !step.staleness) record.gradient_norm = step.gradient_norm;   // pieces have one each
  record.staleness = step.staleness;
  if (step.staleness) staleness_.add(*step.staleness);
  record.samples = step.piece.global_size();
  record.samples_per_second = static_cast<double>(record.samples) / std::max(seconds, 1e-9);
  record.seconds = spent_;
  record.bytes_sent = bytes_;
  record.ranks = step.ranks;
  log_.step(record);
}

void StepLog::settled(std::int64_t steps) {
  if (staleness_.counts.empty()) return;
  log_.event("staleness", {{"step", steps}, {"bound", staleness_.bound}, {"mean", staleness_.mean()},
                           {"counts", boost::json::array(staleness_.counts.begin(), staleness_.counts.end())}});
  staleness_ = {};
}

}  // namespace tugline
