// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/loader.hpp"
#include "tugline/core/data/sample_order.hpp"
#include "tugline/core/models/registry.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/core/tasks/task.hpp"
#include "tugline/parallel/strategy.hpp"

namespace tugline {

class Communicator;
class World;

/// A model that can learn: model, task, arenas and optimizer, built from one config alike on every rank. One thread.
class Learner {
 public:
  /// Collective: ranks agree on names, shapes and dtypes of parameters and buffers, and all start from rank 0's values. Throws
  /// AgreedError: ExitCode::disagree, or ExitCode::config when config, data and model do not fit together. `task` replaces config.task.
  Learner(const RunConfig& config, const ModelRegistry& models, const SampleSpec& spec, World& world,
          std::unique_ptr<Task> task = nullptr);
  ~Learner();

  Model& model() { return *model_; }
  const Task& task() const { return *task_; }
  Arena& parameters() { return *parameters_; }
  Arena& buffers() { return *buffers_; }
  Optimizer& optimizer() { return *optimizer_; }
  /// Its batch norm sums over all ranks in each pass; see require_sync_batch_norm_fits().
  bool sync_batch_norm() const { return batch_norm_ != nullptr; }

  /// How many backward passes `piece` takes (train.micro_batch).
  int backwards(const Piece& piece) const;
  /// Weight that the gradient of a step is divided by before the exact one is known; see Task::nominal_weight.
  double nominal_weight(const Piece& piece) const { return task_->nominal_weight(piece.global_size()); }
  /// Forward and backward over this rank's piece, adding gradients of (loss sum / nominal weight). Dropout draws from a
  /// generator seeded by (config.seed, piece.step, first position of the micro-batch).
  StepReport compute_gradients(Loader& loader, const Piece& piece);
  /// One micro-batch of the above: returns sums; calls backward with seed 1 / nominal_weight.
  void compute_gradients(const Batch& batch, double nominal_weight, std::uint64_t dropout_seed, StepReport& report);

  /// The model's output in the mode it is in; converts the input to the run's precision and memory format.
  at::Tensor forward(const at::Tensor& input);
  /// Sums over one batch in evaluation mode, without a graph. Leaves the model in the mode it was in.
  EvalSums evaluate(const Batch& batch);

 private:
  std::uint64_t seed_;
  std::int64_t micro_batch_;
  bool float64_;
  bool channels_last_;
  std::shared_ptr<Model> model_;
  std::unique_ptr<Task> task_;
  std::unique_ptr<Arena> parameters_;
  std::unique_ptr<Arena> buffers_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Communicator> batch_norm_;   // sync batch norm talks on a channel of its own
};

}  // namespace tugline
