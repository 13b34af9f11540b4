// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

#include <torch/nn/module.h>

namespace tugline {

/// Sums a contiguous float64 tensor over all ranks, in place. Collective.
using AllReduce = std::function<void(at::Tensor&)>;

enum class BatchNormMode {
  local,  ///< each rank normalises by its own samples; running statistics differ between ranks
  sync,   ///< statistics of the global batch, each sample counting once; every rank needs at least one sample
};

/// Batch norm over dimension 1 of [batch, channels, ...], with torch::nn::BatchNorm2d's parameters, buffers and formulas.
/// In sync mode each training forward and each backward is one call of the hook per module, in the same order on all
/// ranks, on the thread that calls forward or backward; without a hook, or in evaluation, sync is the same as local.
class BatchNorm : public torch::nn::Module {
 public:
  BatchNorm(std::int64_t channels, BatchNormMode mode, double momentum = 0.1, double eps = 1e-5);

  at::Tensor forward(const at::Tensor& input);
  BatchNormMode mode() const { return mode_; }
  /// Kept and used in sync mode only.
  void set_reduction(AllReduce all_reduce);

 private:
  at::Tensor forward_sync(const at::Tensor& input);

  BatchNormMode mode_;
  double momentum_, eps_;
  AllReduce all_reduce_;
  at::Tensor weight_, bias_, running_mean_, running_var_, num_batches_tracked_;
};

/// Sets the hook on every BatchNorm inside `module`; null takes it away.
void set_batch_norm_reduction(torch::nn::Module& module, AllReduce all_reduce);
/// True when `module` holds a batch norm of any kind (ours or torch::nn's), so that local statistics differ between ranks.
bool has_batch_norm(const torch::nn::Module& module);

}  // namespace tugline
