// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/models/builders.hpp"

#include <functional>
#include <numeric>

#include <ATen/ops/gelu.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/tanh.h>
#include <c10/util/StringUtil.h>

#include "tugline/core/data/dataset.hpp"
#include "tugline/core/error.hpp"

namespace tugline {
namespace {

std::int64_t product(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

}  // namespace

Activation activation_named(const std::string& name) {
  if (name == "relu") return [](const at::Tensor& x) { return at::relu(x); };
  if (name == "gelu") return [](const at::Tensor& x) { return at::gelu(x); };
  if (name == "tanh") return [](const at::Tensor& x) { return at::tanh(x); };
  throw ConfigError(c10::str("model.activation: unknown activation '", name, "'; choose relu, gelu or tanh"));
}

std::int64_t num_input_features(const SampleSpec& spec, const std::string& model) {
  if (spec.input_dtype == DType::int64) {
    throw ConfigError(c10::str("model.name: '", model, "' reads numbers, but the data are tokens; use transformer"));
  }
  return product(spec.input_shape);
}

std::int64_t num_outputs(const SampleSpec& spec, const std::string& model) {
  if (spec.num_classes == 0) return product(spec.target_shape);
  if (!spec.target_shape.empty()) {
    throw ConfigError(c10::str("model.name: '", model,
                               "' predicts one class per sample, but the data have a target per token; use transformer"));
  }
  return spec.num_classes;
}

}  // namespace tugline
