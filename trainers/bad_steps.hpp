// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tugline/core/data/sample_order.hpp"
#include "tugline/parallel/strategy.hpp"
#include "tugline/trainers/gradient_spike.hpp"

namespace tugline {

class Learner;
class Loader;
class RunLog;
class World;
struct TrainConfig;

/// Keeps account of steps that are not made because of their numbers: a loss or gradient that is not finite, or a gradient that is
/// finite and out of line (train.spike_factor). Says what was wrong, and where it came from. One thread.
class BadSteps {
 public:
  /// Everything must outlive it.
  BadSteps(World& world, const TrainConfig& config, Learner& learner, Loader& loader, std::shared_ptr<const SampleOrder> order, RunLog& log);

  /// What judges norms; null: nobody does.
  const std::shared_ptr<SpikeDetector>& spikes() const { return spikes_; }

  /// `piece` has been tried and not made, and `next` follows: stop, skip or retry. Collective where ranks finish together.
  void tried(const Piece& piece, const StepFacts& facts, std::string_view next);
  /// What was wrong in the last one tried, and has gone when it was computed again.
  std::string passed(const Piece& piece) const;
  /// The same and its cause, for which the step is computed once more. Gradients are not worth anything afterwards; module buffers are those of
  /// another pass. Collective where ranks finish together.
  std::string explain(const Piece& piece, const StepFacts& facts);
  /// What somebody who wants the run to go on may change.
  const char* advice() const;

  /// Takes note of a step that is over; the sentence to warn with when some of it was left out.
  std::optional<std::string> over(const GlobalStep& step);
  /// So many steps in a row were left out that parameters no longer change.
  bool hopeless() const;
  std::string why_hopeless() const;

 private:
  World& world_;
  Learner& learner_;
  Loader& loader_;
  std::shared_ptr<const SampleOrder> order_;
  RunLog& log_;
  bool retries_;
  std::shared_ptr<SpikeDetector> spikes_;
  std::optional<SpikeCause> spike_;   // of the last attempt that was not made
  int in_a_row_ = 0, last_rank_ = -1;   // the last of those in a row: whose loss it was, ...
  std::int64_t last_step_ = 0;          // ... and its number
};

}  // namespace tugline
