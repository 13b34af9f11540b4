// SPDX-License-Identifier: Apache-2.0
#include <ATen/ops/dropout.h>
#include <c10/util/StringUtil.h>
#include <torch/nn/modules/linear.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/models/builders.hpp"

namespace tugline {
namespace {

class Mlp : public Model {
 public:
  Mlp(const ModelConfig& config, std::int64_t features, std::int64_t outputs)
      : activation_(activation_named(config.activation)), dropout_(config.dropout) {
    for (std::size_t i = 0; i < config.hidden.size(); ++i) {
      hidden_.push_back(register_module(c10::str("hidden", i), torch::nn::Linear(features, config.hidden[i])));
      features = config.hidden[i];
    }
    output_ = register_module("output", torch::nn::Linear(features, outputs));
  }

  at::Tensor forward(const at::Tensor& input) override {
    at::Tensor x = input.flatten(1);
    for (auto& layer : hidden_) {
      x = activation_(layer(x));
      if (dropout_ > 0) x = at::dropout(x, dropout_, is_training());
    }
    return output_(x);
  }

 private:
  Activation activation_;
  double dropout_;
  std::vector<torch::nn::Linear> hidden_;
  torch::nn::Linear output_{nullptr};
};

}  // namespace

std::shared_ptr<Model> build_mlp(const ModelConfig& config, const SampleSpec& spec) {
  const std::int64_t features = num_input_features(spec, "mlp");
  return std::make_shared<Mlp>(config, features, num_outputs(spec, "mlp"));
}

}  // namespace tugline
