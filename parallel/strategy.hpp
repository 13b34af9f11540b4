// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "tugline/core/data/sample_order.hpp"
#include "tugline/core/metrics/rank_step.hpp"
#include "tugline/core/metrics/staleness.hpp"
#include "tugline/core/optim/spike_detector.hpp"
#include "tugline/core/state/residual.hpp"
#include "tugline/parallel/balance/share_rule.hpp"

namespace tugline {

struct LateReport;
struct LateVerdict;

/// Why a run should end at a step boundary; the largest any rank asks for is what all do.
enum class StopReason : std::uint8_t { none = 0, limit = 1, signal = 2 };

/// What a rank says about its part of a step; exchanged as one small record.
struct StepReport {
  double weight = 0;          ///< of this rank's samples
  double loss_sum = 0;        ///< of this rank's samples
  double correct = 0;         ///< right predictions, where the task has accuracy
  double counted = 0;
  StopReason stop = StopReason::none;
  bool save = false;          ///< a checkpoint is due by this rank's clock
  double data_seconds = 0;    ///< waiting for the loader
  double compute_seconds = 0; ///< forward and backward, without communication
  double cpu_seconds = 0;     ///< of compute_seconds, that the computing thread had a core
  std::shared_ptr<LateReport> late;   ///< of a device: what loss_sum, correct and the seconds lack until it has been read
};

/// Adds up weight, loss_sum, correct and counted of the reports as a fixed tree does: (1 + 2) + (3 + 4), missing ones being zero.
StepReport add_pairwise(std::vector<StepReport> reports);

/// A step of which all samples have been computed on, by whichever ranks.
struct GlobalStep {
  Piece piece;                ///< the global batch
  double weight = 0;          ///< of the global batch
  double loss = 0;            ///< mean over the global batch, as each sample was met
  double correct = 0, counted = 0;   ///< over the global batch
  double gradient_norm = 0;   ///< 0 when nobody asked for it
  bool finite = true;         ///< false: some loss or gradient was not, and has moved no parameter
  bool made = true;           ///< something of it counts; false: the whole step was left out
  int nonfinite_rank = -1;    ///< the lowest rank whose loss was not finite; -1: a gradient alone
  double lr = 0;
  std::vector<RankStep> ranks;        ///< each rank's part: who is waited for
  std::optional<Staleness> staleness; ///< of the gradients, where they may be computed on old parameters
};

/// A gradient that is finite and too large to be believed.
struct GradientSpike {
  Spike found;                ///< where ranks step on their own: of the one whose gradient is largest
  std::vector<double> own;    ///< norm of this rank's part of it, before any sum, of each slot of the arena; it is in units of `found` ...
  double scale = 1;           ///< ... when multiplied by this
};

/// What a rank knows when it has finished its piece.
struct StepFacts {
  std::vector<GlobalStep> steps;   ///< that are over now and were not before, in order; where ranks finish together, just the one
  bool finite = true;         ///< false: the loss or gradient of some rank that finishes with this one was not; it has moved no parameter
  int nonfinite_rank = -1;    ///< the lowest rank whose loss was not finite; -1: a gradient alone
  std::optional<GradientSpike> spike;   ///< that is why it is not finite; all ranks have it
  std::shared_ptr<LateVerdict> verdict; ///< of a device, on this step, which the host may not have read; `finite` is about what it has
  bool alone = false;         ///< no rank finishes with this one: they meet when they settle
  bool settled = true;        ///< all ranks are here, hold the same parameters, and know of every step before: a time to evaluate, save and stop
  StopReason stop = StopReason::none;
  bool save = false;          ///< somebody's checkpoint is due
  // seconds of this rank
  double data_seconds = 0, compute_seconds = 0, exposed_seconds = 0, wait_seconds = 0, optimizer_seconds = 0;
  std::int64_t bytes_sent = 0;
  std::optional<ShareChange> share_change;   ///< the next step is cut otherwise
};

/// How ranks work together. The training loop asks for the next piece, runs forward and backward on it (seeded with
/// 1 / `nominal weight of the global batch`), and finishes the step. All calls from one thread. Where ranks make each step together,
/// next_piece and finish_step are collective, in one order; elsewhere they meet when they settle.
class Strategy {
 public:
  virtual ~Strategy() = default;
  /// The next piece of the sample order, perhaps an empty one; nullopt when the run's steps have all been handed out and have settled.
  virtual std::optional<Piece> next_piece() = 0;
  /// What next_piece will probably return after `piece`, for the loader; nullopt after the last.
  virtual std::optional<Piece> upcoming(const Piece& piece) const = 0;
  /// Forgets the gradients, which `backwards` calls of backward() will then fill; buckets leave during the last of them
  /// (0: this rank's piece is empty). `nominal_weight` is what backward is seeded with the inverse of, equal on all ranks.
  virtual void begin_step(int backwards, double nominal_weight) = 0;
  /// Waits for the buckets, exchanges the records, and steps the optimizer when all is finite. What is not may be tried again, from
  /// begin_step() on; who asks for the next piece instead leaves it out.
  virtual StepFacts finish_step(const StepReport& report) = 0;
  /// What this rank remembers beside parameters and optimizer slots; complete when a step has settled. Valid as long as the strategy.
  virtual std::vector<Residual> residuals() const { return {}; }
};

}  // namespace tugline
