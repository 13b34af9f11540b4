// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tugline {

class Arena;
struct OptimConfig;
struct Range;

/// Settings of one parameter group, resolved (config `optim.groups`: by name pattern, first match wins).
struct ParamGroup {
  double lr_factor = 1;  ///< multiplies the scheduled learning rate
  double weight_decay = 0;
};

/// Which of resolve_groups() a parameter of `dim` dimensions belongs to. Patterns of config.groups are tried in order (*
/// any text, ? one character); biases and norm weights (dim <= 1) get a group of their own where they must not decay.
int group_of(const OptimConfig& config, const std::string& parameter_name, std::int64_t dim);
/// Two per entry of config.groups, the rest first: group 2k for matrices, 2k + 1 for dim <= 1 without weight decay.
std::vector<ParamGroup> resolve_groups(const OptimConfig& config);

/// One update of a range.
struct Update {
  double lr = 0;           ///< scheduled, not yet multiplied by the group's factor
  double number = 1;       ///< steps done when this one is, counted from 1
  bool first = false;      ///< of all: a whole step takes its gradient undampened then, a part does not. So is number 1 where it is a whole step
  double grad_scale = 1;   ///< gradients are multiplied by it first, in place; those of a part of a step may be overwritten
  /// Which part of a step it is: 1 is a step, and n updates of 1/n, each with the gradient of its own samples, go as far and forget as much
  /// as a step of all of them: each goes 1/n of its way, at once and in the end, and what momentum and moving averages keep is taken to the power 1/n. Sgd makes parts
  /// on the host alone.
  double fraction = 1;
  const at::Tensor* gradients = nullptr;   ///< of the range, flat; null: the arena's
  const at::Tensor* copy = nullptr;   ///< of the range, flat: gets the values as they then are, while those are in the cache; null: none
  /// Numbers that the host does not know, one each, where the arena is: in place of grad_scale (float64), and whether nothing is to change (float32: 1, 0). Of whole steps only.
  at::Tensor scale_there, left_out;
};

/// Steps ranges of an arena. All slots (momentum, second moments) are flat buffers with the arena's layout.
/// Not thread-safe on overlapping ranges; disjoint ranges may be stepped by different threads. Cuts at multiples of 64
/// bytes give the same bits as no cut (elsewhere ATen's vector and scalar code may round differently).
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  /// True: any slice can be stepped alone (sgd, adam, adamw, adagrad). False: whole tensors only (norm-based).
  virtual bool elementwise() const = 0;
  /// One update of `range`, which lies in parameter group `group`.
  virtual void step(const Range& range, int group, const Update& update) = 0;

  struct SlotBuffer {
    std::string name;                 ///< "momentum", "exp_avg", ...
    std::vector<at::Tensor> buffers;  ///< one per flat of the arena; write into them, never replace them
  };
  /// What a checkpoint saves beside the parameters; zero from the start.
  virtual std::vector<SlotBuffer>& slots() = 0;
};

/// Throws ConfigError on an unknown name. The arena must outlive the optimizer. `values`, a buffer per flat as arena.like() makes them, are
/// stepped instead of the arena's own.
std::unique_ptr<Optimizer> make_optimizer(const OptimConfig& config, Arena& arena, std::vector<at::Tensor> values = {});

}  // namespace tugline
