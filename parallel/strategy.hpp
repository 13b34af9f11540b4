// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "tugline/core/data/sample_order.hpp"

namespace tugline {

/// What a rank says about its part of a step; exchanged as one small record.
struct StepReport {
  double weight = 0;          ///< of this rank's samples
  double loss_sum = 0;        ///< of this rank's samples
  double correct = 0;         ///< right predictions, where the task has accuracy
  double counted = 0;
  bool stop = false;          ///< this rank was asked to stop (signal, time limit)
  double data_seconds = 0;    ///< waiting for the loader
  double compute_seconds = 0; ///< forward and backward, without communication
};

/// What all ranks know after a step.
struct StepFacts {
  double weight = 0;          ///< of the global batch
  double loss = 0;            ///< mean over the global batch, before the step
  double accuracy = 0;
  bool has_accuracy = false;
  double gradient_norm = 0;   ///< 0 when nobody asked for it
  bool finite = true;         ///< false: some gradient was not; parameters are untouched
  int nonfinite_rank = -1;    ///< the lowest such rank
  bool stop = false;          ///< somebody asked
  double lr = 0;
  // seconds of this rank
  double data_seconds = 0, compute_seconds = 0, exposed_seconds = 0, wait_seconds = 0, optimizer_seconds = 0;
  std::int64_t bytes_sent = 0;
  std::vector<std::int64_t> shares;   ///< samples per rank
};

/// How ranks work together. The training loop asks for the next piece, runs forward and backward on it (seeded with
/// 1 / `nominal weight of the global batch`), and finishes the step. All calls from one thread; next_piece, begin_step and
/// finish_step are collective, in one order.
class Strategy {
 public:
  virtual ~Strategy() = default;
  /// The next piece; nullopt when `total_steps` have been handed out.
  virtual std::optional<Piece> next_piece() = 0;
  /// What next_piece will probably return after `piece`, for the loader; same epoch or the next.
  virtual Piece upcoming(const Piece& piece) const = 0;
  /// Gradients are zero and about to be filled by `backwards` calls of backward(); buckets leave during the last of them.
  /// `nominal_weight` is what backward is seeded with the inverse of.
  virtual void begin_step(int backwards, double nominal_weight) = 0;
  virtual StepFacts finish_step(const StepReport& report) = 0;
};

}  // namespace tugline
