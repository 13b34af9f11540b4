// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tugline/core/data/dataset.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/core/state/residual.hpp"

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
  std::vector<Residual> residuals;     ///< this rank's own; saved with its slice
  int rank = 0;
  bool parameters_elsewhere = false;   ///< parameters and slots are a copy in common with another rank, who alone restores them
};

/// What one of several writers has of a state: whole arrays, about as many bytes as each other's. 1 of 1: everything.
struct Slice {
  std::int64_t number = 1;
  std::int64_t count = 1;
};

/// A copy of a state that can be written while training goes on.
class Snapshot {
 public:
  /// Copies this slice of the flat buffers, as they are, to the host, into the memory of the copy before: what training waits for is no
  /// more than that. Slices are cut alike on all ranks.
  void take(const TrainState& state, const std::string& config_yaml, Slice slice = {});
  /// Arrays of the slice's tensors in their own shapes, C order, and texts: a whole checkpoint where there is one slice. Any thread; valid
  /// until the next take().
  CheckpointContent content();
  /// The file that makes slices a checkpoint: all texts, and where each array is. `slices`: as they were written, in order.
  CheckpointContent cover(const std::vector<Manifest::File>& slices) const;

 private:
  struct Entry {
    std::string path;
    at::Tensor view;   // of a copy, with the parameter's own strides
  };
  void copy_arena(const Arena& arena, const std::vector<at::Tensor>& flats, const std::string& prefix, bool trainable_only,
                  const std::function<std::int64_t(std::int64_t)>& slice_at);
  at::Tensor copy(const at::Tensor& flat, std::int64_t begin, std::int64_t end);

  Slice slice_;
  std::int64_t world_size_ = 1;
  std::vector<at::Tensor> copies_;      // of flat buffers: parameters, optimizer slots, buffers; residuals
  std::size_t used_ = 0;                // of them
  std::vector<Entry> entries_;
  std::map<std::string, std::int64_t> slice_of_;   // by path, but for residuals
  std::vector<at::Tensor> reordered_;   // those whose strides are not C order
  std::map<std::string, std::string> texts_;
};

/// Puts a checkpoint into the live state, by name. Throws CheckpointError naming the first tensor that is missing, extra, or of
/// another shape or dtype, or normalisation statistics that the data no longer has; nothing has been changed then.
void restore(const Checkpoint& checkpoint, TrainState& state);
/// Puts what a checkpoint has of `state.rank`'s residuals into the live ones; only where residuals_fit(), that is where the checkpoint has
/// just these.
bool residuals_fit(const Checkpoint& checkpoint, const TrainState& state);
void restore_residuals(const Checkpoint& checkpoint, TrainState& state);
/// Which arrays: residuals of any rank; all but other ranks' residuals; parameters and buffers alone.
bool is_residual(const std::string& path);
bool is_for_rank(const std::string& path, int rank);
bool is_of_model(const std::string& path);
/// Parameters and buffers alone.
void restore_model(const Checkpoint& checkpoint, Arena& parameters, Arena& buffers);

/// The parts that are read without a model. They throw CheckpointError.
std::string config_text(const Checkpoint& checkpoint);
Normalisation normalisation_of(const Checkpoint& checkpoint);

}  // namespace tugline
