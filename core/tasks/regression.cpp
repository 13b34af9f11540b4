// SPDX-License-Identifier: Apache-2.0
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/StringUtil.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/tasks/shipped.hpp"

namespace tugline {
namespace {

/// Squared error, averaged over a sample's outputs and summed over samples; each sample weighs 1.
class Regression : public Task {
 public:
  at::Tensor loss(const at::Tensor& output, const at::Tensor& target) const override { return squared_errors(output, target).sum(); }
  double weight(const at::Tensor& target) const override { return static_cast<double>(target.size(0)); }
  at::Tensor correct(const at::Tensor&, const at::Tensor&) const override { return {}; }
  double counted(const at::Tensor&) const override { return 0; }

  EvalSums evaluate(const at::Tensor& output, const at::Tensor& target) const override {
    const at::NoGradGuard no_grad;
    EvalSums sums;
    sums.loss = squared_errors(output, target).sum(at::kDouble).item<double>();
    sums.weight = weight(target);
    return sums;
  }

  double nominal_weight(std::int64_t num_samples) const override { return static_cast<double>(num_samples); }
  bool has_accuracy() const override { return false; }

 private:
  /// [batch]. Shapes may differ by dimensions of 1 only; broadcasting [batch] against [batch, 1] would be wrong silently.
  static at::Tensor squared_errors(const at::Tensor& output, const at::Tensor& target) {
    if (output.numel() != target.numel()) {
      throw Error(c10::str("regression: the model gives ", output.numel(), " values, but the batch has ", target.numel(),
                           " targets"));
    }
    const std::int64_t batch = target.size(0);
    const std::int64_t outputs = batch == 0 ? 1 : target.numel() / batch;
    const at::Tensor wanted = target.to(output.scalar_type()).reshape({batch, outputs});
    return (output.reshape({batch, outputs}) - wanted).square().mean(1);
  }
};

}  // namespace

std::unique_ptr<Task> make_regression(const TaskConfig& config, const SampleSpec& spec) {
  if (spec.num_classes != 0) throw ConfigError("task.name: regression needs data with numbers as targets, not classes");
  if (!config.class_weights.empty()) throw ConfigError("task.class_weights: regression has no classes");
  if (config.label_smoothing != 0) throw ConfigError("task.label_smoothing: regression has no labels to smooth");
  return std::make_unique<Regression>();
}

}  // namespace tugline
