// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tugline/core/data/dataset.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/core/state/arena.hpp"

namespace tugline {

/// Where a run stands, as numbers: with the config it determines every random stream and the sample cursor.
struct Progress {
  std::uint64_t seed = 0;
  std::int64_t step = 0;          // global steps done
  std::int64_t epoch = 0;         // of the last step, from 0
  std::int64_t position = 0;      // samples of that epoch done
  std::int64_t world_size = 1;    // of the run that wrote it
  bool has_best = false;          // of checkpoint.best_metric
  double best_value = 0;
  std::string best_metric;
  bool has_watched = false;       // of train.early_stop.metric
  double watched_value = 0;
  std::int64_t evaluations_without_improvement = 0;
  std::int64_t validated_step = -1;   // the last one after which the validation split was evaluated
  double seconds = 0;             // of training steps, all attempts
  // sums over the steps of the current epoch
  double epoch_loss_sum = 0, epoch_weight = 0, epoch_correct = 0, epoch_counted = 0;
};

/// All that continuing needs; nothing else remembers. Arenas and the memory of slots are the live ones.
struct TrainState {
  Arena& parameters;
  Arena& buffers;
  std::vector<Optimizer::SlotBuffer> slots;
  Progress progress;
  Normalisation normalisation;
  std::string shares;                  ///< how ranks had cut the batch, as text; empty: in equal parts
  std::string loss_scale;              ///< of fp16, as text; empty: there is none
  std::string gradient_norms;          ///< of the last steps, as text; empty: nobody looks for spikes
  bool parameters_elsewhere = false;   ///< parameters and slots are a copy in common with another rank, who alone restores them
};

/// A copy of a state that can be written while training goes on.
class Snapshot {
 public:
  /// Copies flat buffers as they are, to the host, into the memory of the copy before: what training waits for is no more than that.
  void take(const TrainState& state, const std::string& config_yaml);
  /// Arrays of every tensor in its own shape, C order, and texts. Any thread; valid until the next take().
  CheckpointContent content();

 private:
  struct Entry {
    std::string path;
    at::Tensor view;   // of a copy, with the parameter's own strides
  };
  void copy(std::size_t index, const at::Tensor& flat);

  std::vector<at::Tensor> copies_;      // of flat buffers: parameters, buffers, optimizer slots
  std::vector<Entry> entries_;
  std::vector<at::Tensor> reordered_;   // those whose strides are not C order
  std::map<std::string, std::string> texts_;
};

/// Puts a checkpoint into the live state, by name. Throws CheckpointError naming the first tensor that is missing, extra, or of
/// another shape or dtype, or normalisation statistics that the data no longer has; nothing has been changed then.
void restore(const Checkpoint& checkpoint, TrainState& state);
/// Parameters and buffers alone.
void restore_model(const Checkpoint& checkpoint, Arena& parameters, Arena& buffers);

/// The parts that are read without a model. They throw CheckpointError.
std::string config_text(const Checkpoint& checkpoint);
Normalisation normalisation_of(const Checkpoint& checkpoint);

}  // namespace tugline
