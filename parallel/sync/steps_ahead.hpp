// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/late_report.hpp"
#include "tugline/parallel/step_records.hpp"

namespace tugline {

class Communicator;

/// Steps that a device has been told to make, and of which the host has read nothing yet, in order. What such a step may move is decided on the
/// device, alike for all ranks. One thread.
class StepsAhead {
 public:
  struct Options {
    bool norm = false;      ///< somebody asks for the norm of gradients
    double clip_norm = 0;   ///< 0: off
    bool hold = false;      ///< after a step that is not finite none moves anything until it has been read
  };
  /// `watched`: what this rank looks at, of the sum over the ranks of `gradients`. Both must outlive it.
  StepsAhead(Communicator& gradients, const Arena& arena, std::vector<Range> watched, Options options);

  /// One more step, whose gradients are the sum now. `scale`: what they are to be multiplied by before any clipping. Collective; over NCCL the
  /// host does not wait.
  LateVerdict add(const GlobalStep& step, const StepReport& report, std::int64_t samples, double scale);
  std::size_t size() const { return steps_.size(); }

  struct Read {
    StepPart part;
    GlobalStep step;          ///< as it was given
    double norm = 0;          ///< of its gradient, where somebody asks
    bool left_out = false;    ///< by the device
  };
  /// The device has been told all of the step that was added last.
  void mark_end();
  /// Waits until the device has computed: seconds are known.
  void wait_for_compute() { tugline::wait_for_compute(steps_, before_ ? &*before_ : nullptr); }
  /// Waits for the device once more. It is empty afterwards.
  std::vector<Read> read();

 private:
  struct Told {
    GlobalStep step;
    std::int64_t samples;
    double scale;
  };
  Communicator& gradients_;
  const Arena& arena_;
  std::vector<Range> watched_;
  Options options_;
  std::vector<UnreadStep> steps_;
  std::vector<Told> told_;   // of each
  at::Tensor held_;          // bool: one of them was not finite
  std::optional<DeviceTimer> before_;   // the end of the last step that was read
};

}  // namespace tugline
