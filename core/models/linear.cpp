// SPDX-License-Identifier: Apache-2.0
#include <torch/nn/modules/linear.h>

#include "tugline/core/models/builders.hpp"

namespace tugline {
namespace {

/// Logistic or linear regression: one affine map of the flattened sample.
class LinearModel : public Model {
 public:
  LinearModel(std::int64_t features, std::int64_t outputs)
      : output_(register_module("output", torch::nn::Linear(features, outputs))) {}

  at::Tensor forward(const at::Tensor& input) override { return output_(input.flatten(1)); }

 private:
  torch::nn::Linear output_;
};

}  // namespace

std::shared_ptr<Model> build_linear(const ModelConfig&, const SampleSpec& spec) {
  const std::int64_t features = num_input_features(spec, "linear");
  return std::make_shared<LinearModel>(features, num_outputs(spec, "linear"));
}

}  // namespace tugline
