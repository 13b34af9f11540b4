// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>

namespace tugline {

/// A gradient norm that is out of line with those of the steps before it.
struct Spike {
  double norm = 0;
  double usual = 0;   ///< what it is compared with
};

/// Finds gradient norms that are more than `factor` times what is usual: the norm that nine of ten of the last kWindow steps did not exceed
/// (Seetharaman et al. 2020, "AutoClip", clip to such a percentile). Where a run fits its data almost exactly, single batches have norms of ten
/// times the median and more; those are among its largest ones often enough to be known here. One large norm alone is not: a mean and a deviation,
/// as OLMo-core's SkipStepOptimizer has them (2 OLMo 2 Furious, 2025), would be moved by it.
///
/// Norms that rise or fall over some tens of steps are followed. A spike does not count as usual, but when kNewLevel spikes in a row have been left
/// out and the next norm is in line with them, they are what is usual from there on. Nothing but numbers: ranks that see the same norms judge alike.
class SpikeDetector {
 public:
  static constexpr std::size_t kWindow = 100, kWarmUp = 20, kNewLevel = 5;

  explicit SpikeDetector(double factor) : factor_(factor) {}

  /// The norm of the next step, or of the same one computed again. Never one of the first kWarmUp is a spike.
  std::optional<Spike> judge(double norm);

  /// As JSON, for a checkpoint.
  std::string save() const;
  /// Takes up what save() wrote; an empty text changes nothing. Throws CheckpointError.
  void load(const std::string& text);

 private:
  void take(double norm);

  double factor_;
  std::deque<double> norms_;    // of the last steps, the oldest first
  std::deque<double> spikes_;   // since the last of those, the last kNewLevel at most
};

}  // namespace tugline
