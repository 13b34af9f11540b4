// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "tugline/core/data/dataset.hpp"
#include "tugline/core/tasks/task.hpp"

namespace tugline {

class Learner;
class World;

struct Evaluation {
  std::int64_t samples = 0;
  double loss = 0;                  ///< mean over the split
  double accuracy = 0;
  bool has_accuracy = false;
  double seconds = 0;
};

/// Collective. Every sample of `dataset` exactly once, no padding. The split is cut into blocks of `block` samples whatever the
/// number of ranks; each rank takes as many of them as its part of `speeds` (one per rank, no unit; empty: equal ones), and their sums are
/// added in block order, so 1, 2, 3 or 4 ranks get the same number, bit for bit. Batch-norm buffers must be equal on all ranks
/// (average_values).
Evaluation evaluate(Learner& learner, std::shared_ptr<const Dataset> dataset, std::int64_t block, World& world,
                    std::span<const double> speeds = {});

}  // namespace tugline
