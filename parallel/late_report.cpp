// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/late_report.hpp"

#include <algorithm>
#include <utility>

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros_like.h>

#include "tugline/core/clock.hpp"

namespace tugline {

void LateReport::add(const at::Tensor& loss_sum, const at::Tensor& correct) {
  const at::Tensor loss = loss_sum.detach().to(at::kDouble).reshape({1});
  sums.push_back(at::cat({loss, correct.defined() ? correct.to(at::kDouble).reshape({1}) : at::zeros_like(loss)}));
}

void wait_for_compute(StepReport& report) {
  if (!report.late) return;
  const LateReport& late = *report.late;
  late.timer.wait();
  const double device_seconds = late.timer.seconds();
  // While the host waited for one pass's samples, the device may have been at the pass before.
  report.data_seconds = std::min(report.data_seconds, std::max(0.0, Clock::steady().seconds() - late.started - device_seconds));
  report.compute_seconds += device_seconds;
  report.cpu_seconds = report.compute_seconds;   // not measured: nobody is to take a device for a rank without a core
  if (report.late->computed) report.late->computed();
}

std::vector<double> read_late(StepReport& report, std::vector<at::Tensor> more) {
  std::size_t own = 0;
  for (const at::Tensor& number : more) own += static_cast<std::size_t>(number.numel());
  if (report.late) more.insert(more.end(), report.late->sums.begin(), report.late->sums.end());
  if (more.empty()) return {};
  std::vector<double> values = DeviceReading(more).wait();
  std::vector<StepReport> passes;
  for (std::size_t i = own; i < values.size(); i += 2) passes.push_back({.loss_sum = values[i], .correct = values[i + 1]});
  const StepReport sum = add_pairwise(std::move(passes));
  report.loss_sum += sum.loss_sum;
  report.correct += sum.correct;
  report.late.reset();
  values.resize(own);
  return values;
}

}  // namespace tugline
