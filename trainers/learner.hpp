// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/loader.hpp"
#include "tugline/core/data/sample_order.hpp"
#include "tugline/core/models/registry.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/core/tasks/task.hpp"
#include "tugline/parallel/strategy.hpp"
#include "tugline/parallel/sync/exchange.hpp"
#include "tugline/parallel/watchdog/heartbeat.hpp"
#include "tugline/trainers/batch_copy.hpp"
#include "tugline/trainers/loss_scale.hpp"
#include "tugline/trainers/pass_graphs.hpp"

namespace tugline {

class Communicator;
class NodeTeam;
class World;

/// How many copies of parameters and optimizer state there are where ranks share memory. One per host is the fast and small way for
/// training; whoever writes parameters by other ways than the optimizer needs one per rank.
enum class ParameterCopies { per_rank, per_host };

/// A model that can learn: model, task, arenas and optimizer, built from one config alike on every rank. One thread.
class Learner {
 public:
  /// Collective: ranks agree on names, shapes and dtypes of parameters and buffers, and all start from rank 0's values. Throws
  /// AgreedError: ExitCode::disagree, or ExitCode::config when config, data and model do not fit together. `task` replaces config.task.
  /// `copies` is a wish: where ranks cannot share memory there is one per rank. `world` must outlive it.
  Learner(const RunConfig& config, const ModelRegistry& models, const SampleSpec& spec, World& world,
          std::unique_ptr<Task> task = nullptr, ParameterCopies copies = ParameterCopies::per_rank);
  ~Learner();

  Model& model() { return *model_; }
  const Task& task() const { return *task_; }
  Arena& parameters() { return *parameters_; }
  Arena& buffers() { return *buffers_; }
  Optimizer& optimizer() { return *optimizer_; }
  /// Where the gradients of all ranks lie; null when they go by message. For SyncOptions.
  const std::shared_ptr<NodeTeam>& node() const { return node_; }
  /// Where asynchronous ranks exchange what parameters() has: on the host, laid out as that, which it is unless that is on a device.
  Arena& exchanged() { return staging_ ? *staging_ : *parameters_; }
  /// What the optimizer steps instead of the arena's values: one copy for all ranks. Empty where it steps those (AsyncStrategy).
  const std::vector<at::Tensor>& common() const { return common_; }
  /// Where parameters, gradients and batches are (train.device).
  at::Device device() const { return device_; }
  Batch to_device(const Batch& batch) const { return copy_(batch); }
  /// Sums gradients where they are: the world's communicator, or that of its devices.
  Communicator& gradients() { return channel_ ? *channel_ : host_channel_; }
  /// How gradients go that do not lie in the node's memory.
  const ExchangeOptions& exchange() const { return exchange_; }
  /// parallel.shards
  int shards() const { return shards_; }
  /// Collective. Begins with the weights of `file` (read_weights). Throws AgreedError that names what does not fit.
  void init_from(const std::string& file, World& world);
  /// There is one copy of parameters and optimizer slots for all ranks of the host.
  bool common_parameters() const;
  /// Outside a step this rank may write parameters and optimizer slots: they are its own, or it is the first on its host.
  bool writes_parameters() const;
  /// Its batch norm sums over all ranks in each pass; see require_sync_batch_norm_fits().
  bool sync_batch_norm() const { return batch_norm_ != nullptr; }

  /// How many backward passes `piece` takes (train.micro_batch).
  int backwards(const Piece& piece) const;
  /// Weight that the gradient of a step is divided by before the exact one is known (Task::nominal_weight), over the loss scale.
  double nominal_weight(const Piece& piece) const { return task_->nominal_weight(piece.global_size()) / loss_scale_.value(); }
  /// Whether gradients of the step that has just finished were too large for 16 bits: the scale is smaller now, and the step is to be
  /// tried again. Called once for each, alike on all ranks.
  bool overflowed(const StepFacts& facts);
  LossScale& loss_scale() { return loss_scale_; }
  /// Forward and backward over this rank's piece, adding gradients of (loss sum / nominal weight). Dropout draws from a
  /// generator seeded by (config.seed, piece.step, first position of the micro-batch). On a device the host does not wait for it: the report
  /// is late.
  StepReport compute_gradients(Loader& loader, const Piece& piece);

  /// Beats as it computes; for a watchdog.
  Heartbeat& heartbeat() { return heartbeat_; }

  /// The model's output in the mode it is in, float32 or float64; the run's precision and memory format hold within.
  at::Tensor forward(const at::Tensor& input);
  /// Sums over one batch in evaluation mode, without a graph. Leaves the model in the mode it was in.
  EvalSums evaluate(const Batch& batch);

 private:
  std::int64_t pass_size(const Piece& piece) const;
  void wait_for_start(const LateReport& late);
  void compute_gradients(const Batch& batch, double nominal_weight, std::uint64_t dropout_seed, StepReport& report, LateReport* late);
  PassSums sums_of(const Batch& there);
  void make_arenas(const RunConfig& config, World& world, ParameterCopies copies);

  std::uint64_t seed_;
  std::int64_t micro_batch_;
  int shards_;
  at::Device device_ = at::kCPU;
  BatchCopy copy_{at::kCPU};
  Communicator& host_channel_;
  std::unique_ptr<Communicator> channel_;   // of devices; null: the host's
  bool float64_;
  std::optional<c10::ScalarType> reduced_;   // 16-bit type of products
  LossScale loss_scale_;
  bool channels_last_;
  bool goes_ahead_;                          // of its device, which may be at a step before
  ExchangeOptions exchange_;
  Heartbeat heartbeat_;
  std::optional<PassGraphs> graphs_;
  std::shared_ptr<Model> model_;
  std::unique_ptr<Task> task_;
  std::shared_ptr<NodeTeam> node_;
  std::unique_ptr<Arena> parameters_;
  std::unique_ptr<Arena> staging_;   // of asynchronous ranks with a device
  std::unique_ptr<Arena> buffers_;
  std::vector<at::Tensor> common_;   // per flat
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Communicator> batch_norm_;   // sync batch norm talks on a channel of its own ...
  double waited_ = 0, waited_cpu_ = 0;         // ... in these seconds of the current step: no work of this rank
};

}  // namespace tugline
