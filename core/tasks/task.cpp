// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/tasks/task.hpp"

#include <c10/util/StringUtil.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/tasks/shipped.hpp"

namespace tugline {
namespace {

std::string task_for(const SampleSpec& spec) {
  if (spec.num_classes == 0) return "regression";
  return spec.target_shape.empty() ? "classification" : "language_model";
}

}  // namespace

EvalSums& EvalSums::operator+=(const EvalSums& other) {
  loss += other.loss;
  weight += other.weight;
  correct += other.correct;
  counted += other.counted;
  return *this;
}

std::unique_ptr<Task> make_task(const TaskConfig& config, const SampleSpec& spec) {
  const std::string name = config.name == "auto" ? task_for(spec) : config.name;
  if (name == "classification") return make_classification(config, spec);
  if (name == "regression") return make_regression(config, spec);
  if (name == "language_model") return make_language_model(config, spec);
  throw ConfigError(
      c10::str("task.name: unknown task '", name, "'; choose auto, classification, regression or language_model"));
}

}  // namespace tugline
