// SPDX-License-Identifier: Apache-2.0
#include <numeric>

#include <ATen/core/Reduction.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/tensor.h>
#include <c10/util/StringUtil.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/tasks/shipped.hpp"

namespace tugline {
namespace {

/// Cross entropy of logits [batch, classes] against classes [batch], as at::cross_entropy_loss defines it: with class
/// weights each sample's loss is multiplied by its class's weight, and the weight of a batch is the sum of those.
class Classification : public Task {
 public:
  explicit Classification(const TaskConfig& config) : smoothing_(config.label_smoothing) {
    if (config.class_weights.empty()) return;
    class_weights_ = at::tensor(config.class_weights, at::kDouble);
    mean_class_weight_ = std::accumulate(config.class_weights.begin(), config.class_weights.end(), 0.0) /
                         static_cast<double>(config.class_weights.size());
  }

  at::Tensor loss(const at::Tensor& output, const at::Tensor& target) const override {
    return cross_entropy(output, target, at::Reduction::Sum);
  }
  double weight(const at::Tensor& target) const override {
    if (!class_weights_.defined()) return static_cast<double>(target.numel());
    return class_weights_.to(target.device()).index_select(0, target).sum().item<double>();
  }
  at::Tensor correct(const at::Tensor& output, const at::Tensor& target) const override { return output.argmax(1).eq(target).sum(); }
  double counted(const at::Tensor& target) const override { return static_cast<double>(target.numel()); }

  EvalSums evaluate(const at::Tensor& output, const at::Tensor& target) const override {
    const at::NoGradGuard no_grad;
    EvalSums sums;
    // One loss per sample, added in float64: how samples are batched hardly changes the result.
    sums.loss = cross_entropy(output, target, at::Reduction::None).sum(at::kDouble).item<double>();
    sums.weight = weight(target);
    sums.correct = static_cast<double>(correct(output, target).item<std::int64_t>());
    sums.counted = counted(target);
    return sums;
  }

  double nominal_weight(std::int64_t num_samples) const override {
    return mean_class_weight_ * static_cast<double>(num_samples);
  }
  bool has_accuracy() const override { return true; }

 private:
  at::Tensor cross_entropy(const at::Tensor& output, const at::Tensor& target, at::Reduction::Reduction reduction) const {
    return at::cross_entropy_loss(output, target, weights_like(output), reduction, /*ignore_index=*/-100, smoothing_);
  }

  /// Copied to a device once, not for every batch.
  at::Tensor weights_like(const at::Tensor& output) const {
    if (!class_weights_.defined()) return {};
    if (!weights_there_.defined() || weights_there_.device() != output.device() || weights_there_.scalar_type() != output.scalar_type()) {
      weights_there_ = class_weights_.to(output.options());
    }
    return weights_there_;
  }

  double smoothing_;
  at::Tensor class_weights_;  // [classes] float64; undefined: all 1
  mutable at::Tensor weights_there_;   // the same, as the last outputs were
  double mean_class_weight_ = 1;
};

}  // namespace

std::unique_ptr<Task> make_classification(const TaskConfig& config, const SampleSpec& spec) {
  if (spec.num_classes == 0 || !spec.target_shape.empty()) {
    throw ConfigError("task.name: classification needs data with one class per sample");
  }
  const std::size_t num_weights = config.class_weights.size();
  if (num_weights != 0 && num_weights != static_cast<std::size_t>(spec.num_classes)) {
    throw ConfigError(c10::str("task.class_weights: ", num_weights, " weights given for ", spec.num_classes, " classes"));
  }
  return std::make_unique<Classification>(config);
}

}  // namespace tugline
