// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tugline/core/models/registry.hpp"

namespace tugline {

// The shipped models, one file each. They throw ConfigError when data and settings do not fit.
std::shared_ptr<Model> build_linear(const ModelConfig&, const SampleSpec&);
std::shared_ptr<Model> build_mlp(const ModelConfig&, const SampleSpec&);
std::shared_ptr<Model> build_convnet(const ModelConfig&, const SampleSpec&);
std::shared_ptr<Model> build_transformer(const ModelConfig&, const SampleSpec&);

using Activation = at::Tensor (*)(const at::Tensor&);
/// relu, gelu or tanh.
Activation activation_named(const std::string& name);

/// Elements of one float sample; throws for tokens, which `model` cannot read.
std::int64_t num_input_features(const SampleSpec&, const std::string& model);
/// Classes, or values to predict; throws for a target per token, which `model` cannot predict.
std::int64_t num_outputs(const SampleSpec&, const std::string& model);

}  // namespace tugline
