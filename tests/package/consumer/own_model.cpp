// SPDX-License-Identifier: Apache-2.0
// A model of one's own with all of Tugline's commands.
#include <torch/nn/modules/linear.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/trainers/apps/app.hpp"

struct OneLayer : tugline::Model {
  explicit OneLayer(const tugline::SampleSpec& spec) {
    out = register_module("out", torch::nn::Linear(spec.input_shape[0], spec.num_classes));
  }
  at::Tensor forward(const at::Tensor& input) override { return out(input); }
  torch::nn::Linear out{nullptr};
};

int main(int argc, char** argv) {
  tugline::App app;
  app.models().add("one_layer", "features to classes", [](const tugline::ModelConfig&, const tugline::SampleSpec& spec) {
    return std::make_shared<OneLayer>(spec);
  });
  return app.run(argc, argv);
}
