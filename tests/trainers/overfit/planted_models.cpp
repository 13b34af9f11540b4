// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/trainers/overfit/planted_models.hpp"

#include <torch/torch.h>

namespace tugline {
namespace {

class Planted : public Model {
 public:
  Planted(const PlantedModel& plant, std::int64_t features, std::int64_t classes) : plant_(plant) {
    first_ = register_module("first", torch::nn::Linear(features, 16));
    second_ = register_module("second", torch::nn::Linear(16, classes));
  }

  at::Tensor forward(const at::Tensor& input) override {
    at::Tensor x = change(plant_.input, input);
    x = change(plant_.middle, torch::relu(first_(x)));
    const bool skip = plant_.output_in_training_only && !is_training();
    return skip ? second_(x) : change(plant_.output, second_(x));
  }

 private:
  static at::Tensor change(const PlantedModel::Change& plant, const at::Tensor& x) { return plant ? plant(x) : x; }

  PlantedModel plant_;
  torch::nn::Linear first_{nullptr}, second_{nullptr};
};

}  // namespace

void add_planted(ModelRegistry& models, const PlantedModel& plant) {
  models.add("planted", "for tests", [plant](const ModelConfig&, const SampleSpec& spec) {
    return std::make_shared<Planted>(plant, spec.input_shape[0], spec.num_classes > 0 ? spec.num_classes : spec.target_shape[0]);
  });
}

}  // namespace tugline
