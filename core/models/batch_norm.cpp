// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/models/batch_norm.hpp"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/native_batch_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/var_mean.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/modules/batchnorm.h>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Carries the hook from forward to backward.
struct HookHolder : torch::CustomClassHolder {
  explicit HookHolder(AllReduce hook) : all_reduce(std::move(hook)) {}
  AllReduce all_reduce;
};

/// All dimensions but the channels'.
std::vector<std::int64_t> reduced_dims(const at::Tensor& x) {
  std::vector<std::int64_t> dims;
  for (std::int64_t d = 0; d < x.dim(); ++d) {
    if (d != 1) dims.push_back(d);
  }
  return dims;
}

/// [channels] -> [1, channels, 1, ...], in the dtype of `x`.
at::Tensor per_channel(const at::Tensor& values, const at::Tensor& x) {
  std::vector<std::int64_t> shape(static_cast<std::size_t>(x.dim()), 1);
  shape[1] = x.size(1);
  return values.to(x.scalar_type()).view(shape);
}

struct GlobalStatistics {
  at::Tensor mean, var;  // [channels], float64; var is the biased one
  double count = 0;      // elements per channel over all ranks
};

/// One reduction of [sums, sums of squares, count]. Float64, so that the difference of squares loses nothing.
GlobalStatistics global_statistics(const at::Tensor& input, const AllReduce& all_reduce) {
  const std::int64_t channels = input.size(1);
  const double count = static_cast<double>(input.numel() / channels);
  if (count == 0) throw Error("batch norm: sync mode needs at least one sample on every rank, but this rank has none");
  auto [var, mean] = at::var_mean(input, reduced_dims(input), /*correction=*/at::Scalar(0));
  mean = mean.to(at::kDouble);
  var = var.to(at::kDouble);
  at::Tensor sums = at::cat({mean * count, (var + mean * mean) * count, at::full({1}, count, mean.options())});
  all_reduce(sums);
  GlobalStatistics global;
  global.count = sums[2 * channels].item<double>();
  global.mean = sums.narrow(0, 0, channels) / global.count;
  global.var = (sums.narrow(0, channels, channels) / global.count - global.mean * global.mean).clamp_min(0);
  return global;
}

/// y = (x - mean) / sqrt(var + eps) * weight + bias, where mean and var are themselves functions of every rank's x.
class SyncNormalise : public torch::autograd::Function<SyncNormalise> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                            const GlobalStatistics& global, double eps, const AllReduce& all_reduce) {
    const at::Tensor mean = global.mean.to(weight.scalar_type());
    const at::Tensor var = global.var.to(weight.scalar_type());
    ctx->save_for_backward({input, weight, mean, (global.var + eps).rsqrt().to(weight.scalar_type())});
    ctx->saved_data["count"] = global.count;
    ctx->saved_data["hook"] = c10::IValue::make_capsule(c10::make_intrusive<HookHolder>(all_reduce));
    return std::get<0>(at::native_batch_norm(input, weight, bias, mean, var, /*training=*/false, /*momentum=*/0, eps));
  }

  static variable_list backward(AutogradContext* ctx, variable_list output_gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& weight = saved[1];
    const at::Tensor input = saved[0].to(weight.scalar_type());   // 16 bits are too few for differences and sums
    const at::Tensor dy = output_gradients[0].to(weight.scalar_type());
    const auto dims = reduced_dims(input);
    const at::Tensor normalised = (input - per_channel(saved[2], input)) * per_channel(saved[3], input);
    const at::Tensor sum_dy = dy.sum(dims, false, at::kDouble);
    const at::Tensor sum_dy_normalised = (dy * normalised).sum(dims, false, at::kDouble);

    // The input's gradient needs the sums over all ranks; those of weight and bias stay this rank's own, since gradients of
    // parameters are summed over ranks later anyway.
    at::Tensor sums = at::cat({sum_dy, sum_dy_normalised});
    const auto holder = c10::static_intrusive_pointer_cast<HookHolder>(ctx->saved_data["hook"].toCapsule());
    holder->all_reduce(sums);
    sums /= ctx->saved_data["count"].toDouble();
    const std::int64_t channels = input.size(1);
    const at::Tensor dx = (dy - per_channel(sums.narrow(0, 0, channels), input) -
                           normalised * per_channel(sums.narrow(0, channels, channels), input)) *
                          per_channel(saved[3] * weight, input);
    return {dx.to(saved[0].scalar_type()), sum_dy_normalised.to(weight.scalar_type()), sum_dy.to(weight.scalar_type()), {}, {}, {}};
  }
};

}  // namespace

BatchNorm::BatchNorm(std::int64_t channels, BatchNormMode mode, double momentum, double eps)
    : mode_(mode), momentum_(momentum), eps_(eps) {
  weight_ = register_parameter("weight", at::ones({channels}));
  bias_ = register_parameter("bias", at::zeros({channels}));
  running_mean_ = register_buffer("running_mean", at::zeros({channels}));
  running_var_ = register_buffer("running_var", at::ones({channels}));
  num_batches_tracked_ = register_buffer("num_batches_tracked", at::zeros({}, at::kLong));
}

void BatchNorm::set_reduction(AllReduce all_reduce) { all_reduce_ = std::move(all_reduce); }

at::Tensor BatchNorm::forward(const at::Tensor& input) {
  if (is_training()) num_batches_tracked_.add_(1);
  if (is_training() && mode_ == BatchNormMode::sync && all_reduce_) return forward_sync(input);
  return at::batch_norm(input, weight_, bias_, running_mean_, running_var_, is_training(), momentum_, eps_, false);
}

at::Tensor BatchNorm::forward_sync(const at::Tensor& input) {
  GlobalStatistics global;
  {
    at::NoGradGuard no_grad;
    global = global_statistics(input, all_reduce_);
    const auto blend = [&](at::Tensor& running, const at::Tensor& now) {
      running.mul_(1 - momentum_).add_(now.to(running.scalar_type()), momentum_);
    };
    blend(running_mean_, global.mean);
    blend(running_var_, global.var * (global.count / std::max(global.count - 1, 1.0)));  // unbiased, as torch keeps it
  }
  return SyncNormalise::apply(input, weight_, bias_, global, eps_, all_reduce_);
}

void set_batch_norm_reduction(torch::nn::Module& module, AllReduce all_reduce) {
  if (auto* norm = dynamic_cast<BatchNorm*>(&module)) norm->set_reduction(all_reduce);
  for (const auto& child : module.children()) set_batch_norm_reduction(*child, all_reduce);
}

bool has_batch_norm(const torch::nn::Module& module) {
  if (dynamic_cast<const BatchNorm*>(&module) || dynamic_cast<const torch::nn::BatchNorm1dImpl*>(&module) ||
      dynamic_cast<const torch::nn::BatchNorm2dImpl*>(&module) ||
      dynamic_cast<const torch::nn::BatchNorm3dImpl*>(&module)) {
    return true;
  }
  const auto children = module.children();
  return std::any_of(children.begin(), children.end(), [](const auto& child) { return has_batch_norm(*child); });
}

}  // namespace tugline
