// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>

#include "tugline/core/tasks/task.hpp"

namespace tugline {

/// A task that does as another does; tests change one thing.
class TaskWrapper : public Task {
 public:
  explicit TaskWrapper(std::unique_ptr<Task> task) : task_(std::move(task)) {}
  at::Tensor loss(const at::Tensor& output, const at::Tensor& target) const override { return task_->loss(output, target); }
  double weight(const at::Tensor& target) const override { return task_->weight(target); }
  at::Tensor correct(const at::Tensor& output, const at::Tensor& target) const override { return task_->correct(output, target); }
  double counted(const at::Tensor& target) const override { return task_->counted(target); }
  EvalSums evaluate(const at::Tensor& output, const at::Tensor& target) const override { return task_->evaluate(output, target); }
  double nominal_weight(std::int64_t num_samples) const override { return task_->nominal_weight(num_samples); }
  bool has_accuracy() const override { return task_->has_accuracy(); }

 private:
  std::unique_ptr<Task> task_;
};

}  // namespace tugline
