// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "tugline/core/tasks/task.hpp"

namespace tugline {

// The shipped tasks, one file each.
std::unique_ptr<Task> make_classification(const TaskConfig&, const SampleSpec&);
std::unique_ptr<Task> make_regression(const TaskConfig&, const SampleSpec&);
std::unique_ptr<Task> make_language_model(const TaskConfig&, const SampleSpec&);

}  // namespace tugline
