// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tugline/core/config/run_config.hpp"

namespace tugline {

class Dataset;
class ModelRegistry;
class Task;
class World;

/// What verify() computes gradients of. `task` null: the config's.
struct VerifySubject {
  const RunConfig& config;
  const ModelRegistry& models;
  std::shared_ptr<const Dataset> train;
  std::function<std::unique_ptr<Task>()> task;
};

/// One global batch, computed by one rank alone and by all together.
struct VerifiedBatch {
  std::string what;                     ///< "first batch", "last batch of the epoch", ...
  std::int64_t samples = 0;
  double largest_gradient = 0;
  struct Row {
    std::string parameter;
    double difference = 0;              ///< max |difference| / largest_gradient, on the worst rank
  };
  std::vector<Row> rows;                ///< every trainable parameter, worst first
  double worst() const { return rows.empty() ? 0 : rows.front().difference; }
};

struct VerifyReport {
  bool passed = false;
  std::string name;                     ///< the config's
  int ranks = 1;
  std::string backend, precision;
  double tolerance = 0;
  std::vector<VerifiedBatch> batches;
  std::string first_layer;              ///< in forward order, that differs; empty when none does
  /// "non_finite", "nondeterministic", "reads_rank", "dropout", "batch_norm_local", "rounding", "ranks_disagree"; empty when none differs.
  /// Rounding, where no tolerance was given, is no failure.
  std::string cause;
  std::string explanation;              ///< what it means and what to do
};

/// Collective. Computes the gradient of the same global batches (the first; the ragged last; one that the ranks cannot share
/// equally; one with fewer samples than ranks) on each rank alone and on all ranks together, from the same parameters, and
/// compares. `tolerance` unset: 1e-5 in float32, 1e-12 in float64. On a difference the batch is computed again without dropout, with
/// batch norm synchronised and in float64, to see which of these makes it go away.
VerifyReport verify(World& world, const VerifySubject& subject, std::optional<double> tolerance = std::nullopt);

/// The block that the command prints: a table, worst first, and the cause.
std::string to_text(const VerifyReport& report);

}  // namespace tugline
