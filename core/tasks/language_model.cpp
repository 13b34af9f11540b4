// SPDX-License-Identifier: Apache-2.0
#include <ATen/core/Reduction.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/tasks/shipped.hpp"

namespace tugline {
namespace {

constexpr std::int64_t kIgnored = -100;  // ATen's ignore_index

/// Cross entropy of logits [batch, time, vocabulary] against tokens [batch, time], summed over tokens. Tokens of -100 are
/// masked: no loss, no weight.
class LanguageModel : public Task {
 public:
  LanguageModel(double label_smoothing, std::int64_t tokens_per_sample)
      : smoothing_(label_smoothing), tokens_per_sample_(tokens_per_sample) {}

  at::Tensor loss(const at::Tensor& output, const at::Tensor& target) const override {
    return cross_entropy(output, target, at::Reduction::Sum);
  }
  double weight(const at::Tensor& target) const override { return static_cast<double>(target.ne(kIgnored).sum().item<std::int64_t>()); }
  at::Tensor correct(const at::Tensor& output, const at::Tensor& target) const override {
    return output.argmax(-1).eq(target).sum();  // never equals the mask
  }
  double counted(const at::Tensor& target) const override { return weight(target); }

  EvalSums evaluate(const at::Tensor& output, const at::Tensor& target) const override {
    const at::NoGradGuard no_grad;
    EvalSums sums;
    sums.loss = cross_entropy(output, target, at::Reduction::None).sum(at::kDouble).item<double>();
    sums.weight = sums.counted = weight(target);
    sums.correct = static_cast<double>(correct(output, target).item<std::int64_t>());
    return sums;
  }

  double nominal_weight(std::int64_t num_samples) const override {
    return static_cast<double>(num_samples * tokens_per_sample_);
  }
  bool has_accuracy() const override { return true; }

 private:
  at::Tensor cross_entropy(const at::Tensor& output, const at::Tensor& target, at::Reduction::Reduction reduction) const {
    return at::cross_entropy_loss(output.flatten(0, -2), target.flatten(), /*weight=*/{}, reduction, kIgnored, smoothing_);
  }

  double smoothing_;
  std::int64_t tokens_per_sample_;
};

}  // namespace

std::unique_ptr<Task> make_language_model(const TaskConfig& config, const SampleSpec& spec) {
  if (spec.num_classes == 0 || spec.target_shape.size() != 1) {
    throw ConfigError("task.name: language_model needs data with a target token for each input token; use data.name: text");
  }
  if (!config.class_weights.empty()) throw ConfigError("task.class_weights: not supported by language_model");
  return std::make_unique<LanguageModel>(config.label_smoothing, spec.target_shape[0]);
}

}  // namespace tugline
