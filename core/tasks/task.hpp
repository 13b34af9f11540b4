// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tugline {

struct Batch;
struct SampleSpec;
struct TaskConfig;

/// The *sum* of per-sample losses (a scalar with a graph) and their total weight (samples, tokens, class weights). The
/// gradient of a step is the sum over all ranks divided by the total weight, whatever the shares.
struct LossSum {
  at::Tensor sum;  ///< scalar; float32 or the model's dtype
  double weight = 0;
};

/// What evaluation adds up; every field is a sum, so ranks add them and divide once at the end.
struct EvalSums {
  double loss = 0;
  double weight = 0;
  double correct = 0;  ///< right predictions (classification, language model)
  double counted = 0;  ///< predictions counted for accuracy
  EvalSums& operator+=(const EvalSums&);
};

/// Turns outputs and targets into losses and metrics. Stateless after construction.
class Task {
 public:
  virtual ~Task() = default;
  virtual LossSum loss(const at::Tensor& output, const at::Tensor& target) const = 0;
  virtual EvalSums evaluate(const at::Tensor& output, const at::Tensor& target) const = 0;
  /// Expected weight of `num_samples` samples: exact when no class weights are set. Seeds backward, so that sums stay
  /// small; the exact weight is exchanged in the per-step record.
  virtual double nominal_weight(std::int64_t num_samples) const = 0;
  virtual bool has_accuracy() const = 0;
};

/// "auto" picks by the data: classes -> classification, float targets -> regression, [time] tokens -> language_model.
/// Throws ConfigError when task and data do not fit.
std::unique_ptr<Task> make_task(const TaskConfig& config, const SampleSpec& spec);

}  // namespace tugline
