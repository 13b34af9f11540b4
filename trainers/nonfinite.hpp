// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tugline/core/data/sample_order.hpp"

namespace tugline {

class Learner;
class Loader;
class World;

/// Where the numbers of a step first stop being numbers.
struct NonfiniteCause {
  int rank = -1;                        ///< the lowest that finds one in its own part; -1: none does when it computes it again
  double loss = 0;                      ///< sum over its samples
  std::string parameter;                ///< the first whose gradient is not finite, in order of registration; empty: only the loss is not
  std::vector<std::int64_t> samples;    ///< its samples: indices into the training split
  std::string sentence() const;
};

/// " (its samples: 3, 14, ...)"; the first of them.
std::string samples_text(const std::vector<std::int64_t>& samples);

/// Computes the gradient of `piece` again on each rank by itself, without a step, and looks. Gradients are not worth anything afterwards;
/// module buffers are those of another pass. Collective: the same result on all ranks.
NonfiniteCause find_nonfinite(Learner& learner, Loader& loader, const SampleOrder& order, const Piece& piece, World& world);

/// The same for this rank's own part alone; rank -1 when it finds nothing. Not collective.
NonfiniteCause find_nonfinite_here(Learner& learner, Loader& loader, const SampleOrder& order, const Piece& piece, int rank);

}  // namespace tugline
