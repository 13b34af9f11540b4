// SPDX-License-Identifier: Apache-2.0
// A model of your own, all of Tugline's commands:
//   mpirun -n 2 own_model train examples/own_model.yaml
//   mpirun -n 2 own_model overfit examples/own_model.yaml
#include <torch/torch.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/trainers/apps/app.hpp"

struct TwoLayers : tugline::Model {
  explicit TwoLayers(const tugline::SampleSpec& spec, std::int64_t width)
      : in(register_module("in", torch::nn::Linear(spec.input_shape[0] * spec.input_shape[1] * spec.input_shape[2], width))),
        out(register_module("out", torch::nn::Linear(width, spec.num_classes))) {}
  at::Tensor forward(const at::Tensor& input) override { return out(torch::relu(in(input.flatten(1)))); }
  torch::nn::Linear in, out;
};

int main(int argc, char** argv) {
  tugline::App app;
  app.models().add("two_layers", "64 pixels, one hidden layer", [](const auto& config, const auto& spec) {
    return std::make_shared<TwoLayers>(spec, std::stoll(config.options.at("width")));
  });
  return app.run(argc, argv);
}
