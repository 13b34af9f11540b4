// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "tugline/core/device_reading.hpp"
#include "tugline/parallel/step_records.hpp"
#include "tugline/parallel/strategy.hpp"

namespace tugline {

class Arena;
class Clock;
struct Range;

/// What a StepReport lacks while the device that it is about has only been told what to do.
struct LateReport {
  explicit LateReport(c10::Device device) : timer(device) {}
  /// One more pass: sum of its losses, and how many predictions were right (undefined: nobody counts). One number each, on the device.
  void add(const at::Tensor& loss_sum, const at::Tensor& correct);

  std::vector<at::Tensor> sums;    ///< of each pass: [loss_sum, correct], float64, on the device
  DeviceTimer timer;               ///< of forward and backward, a span per pass
  double started = 0;              ///< by the steady clock, with the first pass
  std::function<void(bool computing)> phase;   ///< called when the device has come to what is none of its own work, and when it is at that again
};

/// What a device has decided about a step by itself, alike for all ranks.
struct LateVerdict {
  at::Tensor left_out;   ///< bool: the step moves nothing
  at::Tensor scale;      ///< float64: what gradients are multiplied by; undefined: the host knows
  double own_samples = 0, samples = 0;   ///< of this rank, of all: known before it has computed
};

/// A step of which the host has read nothing yet: its report, and numbers there that are read with what that lacks.
struct UnreadStep {
  StepReport report;
  std::vector<at::Tensor> numbers;
  std::vector<double> values;   ///< of `numbers`, once they have been read
  std::optional<DeviceTimer> over;   ///< an empty span, when the device was done with the step; unset: nobody marks it
};

/// Waits until the device has computed all of them, step by step, and no longer: the seconds of their reports are complete. Once for a
/// report; nothing where none is late. `before`: when the device was done with the step before them; null where it was long ago.
void wait_for_compute(std::span<UnreadStep> steps, const DeviceTimer* before = nullptr);
/// Waits for the device once more: reports and values are complete.
void read_late(std::span<UnreadStep> steps);

/// The part of a rank whose device has been told to compute. The host waits until it has, from when on (`start`, by `clock`) it is communication:
/// `finish` sees to the gradients. Then it waits once more, for all that it must know; the squares are those of the ranges `normed`.
StepPart read_part(StepReport report, std::int64_t samples, const Arena& arena, std::span<const Range> normed, const std::function<void()>& finish,
                   const Clock& clock, double& start);

}  // namespace tugline
