// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tugline/core/data/loader.hpp"
#include "tugline/trainers/device_access.hpp"

namespace c10 {
struct StreamGuard;
}

namespace tugline {

class Arena;

/// What a pass over one micro-batch adds up: one number each.
struct PassSums {
  at::Tensor loss;
  at::Tensor correct;   ///< undefined: nobody counts
};

/// Forward and backward on a device, told it once for each shape of batch and then repeated by one call (train.cuda_graphs): for models whose
/// kernels are shorter than it takes to launch them. While this lives, the thread's work goes to another stream than the device's default one,
/// as recording demands; several on a thread share it, and the first outlives the others. One thread.
class PassGraphs {
 public:
  /// `forward` gives the sums of a batch, the loss with its autograd graph, from parameters that stay where they are. Throws as kind_of().
  PassGraphs(c10::Device device, std::function<PassSums(const Batch&)> forward);
  ~PassGraphs();
  PassGraphs(const PassGraphs&) = delete;
  PassGraphs& operator=(const PassGraphs&) = delete;

  /// Forward, and backward of loss / `divisor`: gradients arrive at the trainable ones of `parameters`, always the same, by their
  /// accumulators, as after any backward, but all of them together in the end. The sums hold until the next call. Nullopt where it has
  /// done nothing: shapes are recorded when they are met for the third time. Throws ConfigError where the model cannot be recorded.
  std::optional<PassSums> run(const Batch& batch, double divisor, const Arena& parameters);
  /// Whether run() would wait for all that the device was told: it records, or drops the shape that was used longest ago.
  bool waits_for_device(const Batch& batch) const;
  /// How many calls have repeated what was recorded.
  std::int64_t repeated() const { return repeated_; }

 private:
  struct Recorded {
    Batch batch;                         // what is read
    at::Tensor divisor;
    PassSums sums;
    std::vector<at::Tensor> reached, gradients;   // parameters that the loss depends on, and what arrives there
    int met = 0;
    std::unique_ptr<DeviceGraph> graph;  // last: it goes before what it works on
  };
  Recorded& of_shape(const Batch& batch);
  void record(Recorded& pass, const Arena& parameters);

  c10::Device device_;
  std::function<PassSums(const Batch&)> forward_;
  std::unique_ptr<DeviceGraph> (*make_graph_)();
  std::unique_ptr<c10::StreamGuard> stream_;   // null: the thread has such a stream
  std::list<Recorded> passes_;   // the last one used first
  std::int64_t repeated_ = 0;
};

}  // namespace tugline
