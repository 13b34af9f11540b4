// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tugline/parallel/world.hpp"
#include "tugline/trainers/evaluate.hpp"
#include "tugline/trainers/learner.hpp"
#include "tugline/trainers/overfit/overfit.hpp"

namespace tugline {

/// What every part of the gate works on; `config` is overfit_config's. Outlives them all.
struct GateSetup {
  World& world;
  const RunConfig& config;
  const ModelRegistry& models;
  std::shared_ptr<const Dataset> samples;
  const OverfitParts& parts;

  StepPlan plan(std::int64_t steps) const { return {samples->size(), samples->size(), false, steps}; }
};

/// Training from the initial state, by all ranks. All members are collective.
class Attempt {
 public:
  Attempt(const GateSetup& setup, const OptimConfig& optim, std::int64_t max_steps);

  StepFacts step();        ///< at most max_steps times
  Evaluation evaluate();
  std::int64_t steps() const { return steps_; }
  Learner& learner() { return learner_; }
  /// Lowest rank whose parameters are not rank 0's, bit for bit; 0: none.
  std::int64_t first_different_rank();

 private:
  const GateSetup& setup_;
  Learner learner_;
  Loader loader_;
  std::unique_ptr<Strategy> strategy_;
  std::int64_t steps_ = 0;
};

/// The same model on this rank alone, holding all samples: what ought to come out.
class LoneRank {
 public:
  explicit LoneRank(const GateSetup& setup);

  Learner& learner() { return learner_; }
  const Batch& batch() const { return batch_; }
  /// Gradient of the mean loss over all samples, see mean_gradient().
  at::Tensor gradient();
  /// This rank's part of it: the gradient of the samples that are rank `rank` of `size`'s.
  at::Tensor gradient_of_share(int rank, int size);
  void adopt(Learner& other);     ///< other's parameters and buffers
  void adopt_initial();

  /// All samples' outputs, without a graph.
  at::Tensor outputs(bool training);
  /// Mean of the evaluated loss of outputs(true).
  double objective();

 private:
  const GateSetup& setup_;
  World solo_;
  Learner learner_;
  Loader loader_;
  Batch batch_;
  std::vector<at::Tensor> initial_, initial_buffers_;
};

}  // namespace tugline
