// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include <ATen/core/Tensor.h>

namespace torch::nn {
class Module;
}

namespace tugline {

class Arena;
class World;

struct DataParallelOptions {
  double bucket_mib = 0;       ///< gradients summed as one; 0: by the size of the model (see ArenaOptions)
  bool shared_memory = true;   ///< ranks of one host add up each other's gradients in place; false: always by message
};

/// Data parallelism for a training loop of your own. Three lines change:
///
///     tugline::World world{argc, argv};
///     tugline::DataParallel team{world, *model};          // all ranks now have rank 0's parameters and buffers
///     ...
///     team.backward(loss_sum, weight);                    // instead of loss.backward()
///     optimizer.step();                                   // any torch::optim optimizer, or Tugline's own over team.arena()
///
/// `loss_sum` is the *sum* of this rank's per-sample losses, `weight` how many samples (or tokens) it stands for. After
/// backward() every rank's gradients are those of the mean loss over all ranks' samples, however unevenly they are shared; a rank
/// without samples passes weight 0 and its model's output over an empty batch (or an undefined loss).
///
/// Make it after the model has its final dtype and before the optimizer. Gradients become views of one flat buffer;
/// zero_grad() in any form is fine. Gradients that are not zeroed accumulate, as in a loop without it. One thread.
class DataParallel {
 public:
  /// Collective. Throws AgreedError (ExitCode::disagree) when names, shapes or dtypes of the parameters differ between ranks.
  DataParallel(World& world, torch::nn::Module& model, DataParallelOptions options = {});
  ~DataParallel();

  /// Collective outside no_sync(). Throws Error when weights add up to zero, CommError when another rank is lost. What autograd throws
  /// on one rank leaves the others with gradients that mean nothing, but does not keep them waiting.
  void backward(const at::Tensor& loss_sum, double weight);

  /// While it lives, backward() only adds to this rank's gradients; the first backward() after it sums the whole window.
  ///
  ///     { auto window = team.no_sync(); team.backward(first_half, n1); }
  ///     team.backward(second_half, n2);                   // gradient of the mean over both halves of all ranks
  ///
  /// Gradients must be zero when a window begins. Ranks do not wait for each other inside it, and may make different numbers of
  /// passes there.
  class NoSync {
   public:
    explicit NoSync(DataParallel& team);
    ~NoSync();
    NoSync(const NoSync&) = delete;
    NoSync& operator=(const NoSync&) = delete;

   private:
    DataParallel& team_;
  };
  [[nodiscard]] NoSync no_sync() { return NoSync(*this); }

  /// Collective. Makes floating-point buffers (batch-norm statistics) the mean over all ranks: before evaluating or saving.
  void average_buffers();

  Arena& arena();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tugline
