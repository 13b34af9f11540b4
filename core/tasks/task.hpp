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

/// What evaluation adds up; every field is a sum, so ranks add them and divide once at the end.
struct EvalSums {
  double loss = 0;
  double weight = 0;
  double correct = 0;  ///< right predictions (classification, language model)
  double counted = 0;  ///< predictions counted for accuracy
  EvalSums& operator+=(const EvalSums&);
};

/// Turns outputs and targets into losses and metrics, by these alone. One thread. What returns a tensor leaves it where `output` is, and
/// the host does not wait for it; what returns numbers reads its arguments.
class Task {
 public:
  virtual ~Task() = default;
  /// The *sum* of per-sample losses: a scalar with a graph, float32 or the model's dtype. The gradient of a step is the sum over all ranks
  /// divided by the total weight, whatever the shares.
  virtual at::Tensor loss(const at::Tensor& output, const at::Tensor& target) const = 0;
  /// Total weight of samples with these targets (samples, tokens, class weights).
  virtual double weight(const at::Tensor& target) const = 0;
  /// How many predictions are right: a scalar of int64; undefined without accuracy. Out of counted().
  virtual at::Tensor correct(const at::Tensor& output, const at::Tensor& target) const = 0;
  virtual double counted(const at::Tensor& target) const = 0;
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
