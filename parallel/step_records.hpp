// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "tugline/parallel/strategy.hpp"

namespace tugline {

class Communicator;

/// What a rank says at the end of a step.
struct StepPart {
  StepReport report;
  std::int64_t samples = 0;   ///< of its piece
  bool finite = true;         ///< the gradients that it watches
  double squares = 0;         ///< sum of their squares, where somebody asks for the norm
};

/// What all ranks said.
struct StepSums {
  StepFacts facts;            ///< of one step, but for lr, bytes, norm, and the seconds of what is not known yet
  bool finite = true;         ///< all gradients are
  double squares = 0, largest_squares = 0;   ///< of all ranks together, of one rank
  std::vector<double> weights;   ///< per rank
  double slowest_seconds = 0; ///< of the rank that was busy longest
};

/// One small record per rank and step: everything that ranks tell each other beside gradients, so that no feature needs a
/// collective of its own. Every rank adds up the same numbers in the same order.
class StepRecords {
 public:
  /// `control` must outlive it.
  explicit StepRecords(Communicator& control);
  /// Collective.
  StepSums exchange(const StepPart& mine);

 private:
  struct Record;
  Communicator& control_;
  std::vector<double> records_;   // [ranks, fields]
};

/// Tells `rule` what the step over `piece` took; facts.share_change is what it makes of it. Throws Error when a rank had another share than the
/// rule says. A step that is not finite may come again, and teaches nothing.
void observe_shares(ShareRule& rule, const Piece& piece, StepFacts& facts);

}  // namespace tugline
