// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <boost/json/fwd.hpp>

#include "tugline/core/data/sample_order.hpp"
#include "tugline/parallel/strategy.hpp"

namespace tugline {

class Learner;
class Loader;
class World;

/// Where a spike comes from.
struct SpikeCause {
  Spike found;
  int rank = -1;                        ///< whose own gradient is the largest; -1: those of all ranks do not add up to the spike
  double part = 0;                      ///< norm of that rank's own gradient, as it counts in `found`
  std::string parameter;                ///< where it is largest
  std::vector<std::int64_t> samples;    ///< of that rank: indices into the training split
  std::string sentence() const;
  boost::json::object fields() const;   ///< of the event "spike"
};

/// Out of what each rank has kept of its own gradient: nothing is computed again, since a bit that flips once would not be seen again.
/// Collective: the same result on all ranks.
SpikeCause find_spike(const GradientSpike& spike, Learner& learner, const SampleOrder& order, const Piece& piece, World& world);

/// What `cause.part` (of a rank) is when each rank computes its own gradient again, without a step. Gradients are not
/// worth anything afterwards; module buffers are those of another pass. Collective, the same result on all ranks.
double part_again(const SpikeCause& cause, const GradientSpike& spike, Learner& learner, Loader& loader, const Piece& piece, World& world);

}  // namespace tugline
