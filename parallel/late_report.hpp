// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <vector>

#include "tugline/core/device_reading.hpp"
#include "tugline/parallel/strategy.hpp"

namespace tugline {

/// What a StepReport lacks while the device that it is about has only been told what to do.
struct LateReport {
  explicit LateReport(c10::Device device) : timer(device) {}
  /// One more pass: sum of its losses, and how many predictions were right (undefined: nobody counts). One number each, on the device.
  void add(const at::Tensor& loss_sum, const at::Tensor& correct);

  std::vector<at::Tensor> sums;    ///< of each pass: [loss_sum, correct], float64, on the device
  DeviceTimer timer;               ///< of forward and backward, a span per pass
  double started = 0;              ///< by the steady clock, with the first pass
  std::function<void()> computed;  ///< called when the device has come to the end of them
};

/// Waits until the device has computed, and no longer: the seconds of `report` are complete. Once for a report; nothing where none is late.
void wait_for_compute(StepReport& report);
/// Waits for the device once more: `report` is complete. Returns `more`, scalars on that device, which are read with what the report lacks.
std::vector<double> read_late(StepReport& report, std::vector<at::Tensor> more = {});

}  // namespace tugline
