// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/late_report.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros_like.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/optim/clip.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/sync/bucket_sum.hpp"

namespace tugline {

void LateReport::add(const at::Tensor& loss_sum, const at::Tensor& correct) {
  const at::Tensor loss = loss_sum.detach().to(at::kDouble).reshape({1});
  sums.push_back(at::cat({loss, correct.defined() ? correct.to(at::kDouble).reshape({1}) : at::zeros_like(loss)}));
}

void wait_for_compute(std::span<UnreadStep> steps, const DeviceTimer* before) {
  for (UnreadStep& step : steps) {
    StepReport& report = step.report;
    if (report.late) {
      const LateReport& late = *report.late;
      if (before != nullptr) late.timer.wait_for_start();   // until then it waits for other ranks
      if (late.phase) late.phase(true);
      late.timer.wait();
      if (late.phase) late.phase(false);
      const double device_seconds = late.timer.seconds();
      // While the host waited for samples, the device may have been at the pass or the step before.
      const double idle = before != nullptr ? late.timer.seconds_since(*before) : Clock::steady().seconds() - late.started - device_seconds;
      report.data_seconds = std::min(report.data_seconds, std::max(0.0, idle));
      report.compute_seconds += device_seconds;
      report.cpu_seconds = report.compute_seconds;   // not measured: nobody is to take a device for a rank without a core
    }
    before = step.over ? &*step.over : nullptr;
  }
}

void read_late(std::span<UnreadStep> steps) {
  std::vector<at::Tensor> there;
  for (const UnreadStep& step : steps) {
    there.insert(there.end(), step.numbers.begin(), step.numbers.end());
    if (step.report.late) there.insert(there.end(), step.report.late->sums.begin(), step.report.late->sums.end());
  }
  if (there.empty()) return;
  const std::vector<double> read = DeviceReading(there).wait();
  auto next = read.begin();
  for (UnreadStep& step : steps) {
    for (const at::Tensor& number : step.numbers) {
      step.values.insert(step.values.end(), next, next + number.numel());
      next += number.numel();
    }
    if (!step.report.late) continue;
    std::vector<StepReport> passes;
    for (std::size_t i = 0; i < step.report.late->sums.size(); ++i, next += 2) passes.push_back({.loss_sum = next[0], .correct = next[1]});
    const StepReport sum = add_pairwise(std::move(passes));
    step.report.loss_sum += sum.loss_sum;
    step.report.correct += sum.correct;
    step.report.late.reset();
  }
}

StepPart read_part(StepReport report, std::int64_t samples, const Arena& arena, std::span<const Range> normed, const std::function<void()>& finish,
                   const Clock& clock, double& start) {
  UnreadStep step{.report = std::move(report)};
  wait_for_compute(std::span(&step, 1));
  start = clock.seconds();
  finish();
  step.numbers.push_back(magnitude_there(arena));
  for (const Range& range : normed) step.numbers.push_back(squared_norm_there(arena, range));
  read_late(std::span(&step, 1));
  return {step.report, samples, std::isfinite(step.values.front()), std::accumulate(step.values.begin() + 1, step.values.end(), 0.0)};
}

}  // namespace tugline
