// SPDX-License-Identifier: Apache-2.0
#include <numeric>

#include <ATen/ops/dropout.h>
#include <ATen/ops/max_pool2d.h>
#include <c10/util/StringUtil.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/models/batch_norm.hpp"
#include "tugline/core/models/builders.hpp"

namespace tugline {
namespace {

/// Stages of 3x3 convolution, norm, activation and 2x2 max pooling; then one affine map of what is left of the image.
class Convnet : public Model {
 public:
  Convnet(const ModelConfig& config, const std::vector<std::int64_t>& image, std::int64_t outputs)
      : activation_(activation_named(config.activation)), dropout_(config.dropout) {
    std::int64_t channels = image[0], height = image[1], width = image[2];
    for (std::size_t i = 0; i < config.channels.size(); ++i) {
      stages_.push_back(make_stage(config, i, channels));
      channels = config.channels[i];
      height /= 2;
      width /= 2;
    }
    output_ = register_module("output", torch::nn::Linear(channels * height * width, outputs));
  }

  at::Tensor forward(const at::Tensor& input) override {
    at::Tensor x = input.dim() == 3 ? input.unsqueeze(1) : input;
    for (auto& stage : stages_) {
      x = stage.convolution(x);
      if (stage.group_norm) x = stage.group_norm(x);
      if (stage.batch_norm) x = stage.batch_norm->forward(x);
      x = at::max_pool2d(activation_(x), {2, 2});
    }
    x = x.flatten(1);
    if (dropout_ > 0) x = at::dropout(x, dropout_, is_training());
    return output_(x);
  }

 private:
  struct Stage {
    torch::nn::Conv2d convolution{nullptr};
    torch::nn::GroupNorm group_norm{nullptr};
    std::shared_ptr<BatchNorm> batch_norm;
  };

  Stage make_stage(const ModelConfig& config, std::size_t index, std::int64_t in) {
    const std::int64_t out = config.channels[index];
    Stage stage;
    // A norm subtracts the mean, so a bias before it would never get a gradient.
    const bool bias = config.norm == "none";
    stage.convolution = register_module(c10::str("conv", index),
                                        torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, 3).padding(1).bias(bias)));
    const std::string norm_name = c10::str("norm", index);
    if (config.norm == "group") {
      const std::int64_t groups = std::gcd<std::int64_t, std::int64_t>(out, 8);
      stage.group_norm = register_module(norm_name, torch::nn::GroupNorm(torch::nn::GroupNormOptions(groups, out)));
    } else if (config.norm == "batch") {
      const auto mode = config.batch_norm == "sync" ? BatchNormMode::sync : BatchNormMode::local;
      stage.batch_norm = register_module(norm_name, std::make_shared<BatchNorm>(out, mode));
    } else if (config.norm != "none") {
      throw ConfigError(c10::str("model.norm: unknown norm '", config.norm, "'; choose group, batch or none"));
    }
    return stage;
  }

  Activation activation_;
  double dropout_;
  std::vector<Stage> stages_;
  torch::nn::Linear output_{nullptr};
};

/// [channels, height, width]; a plain [height, width] counts as one channel.
std::vector<std::int64_t> image_shape(const SampleSpec& spec, std::size_t num_stages) {
  std::vector<std::int64_t> image = spec.input_shape;
  if (image.size() == 2) image.insert(image.begin(), 1);
  if (image.size() != 3) {
    throw ConfigError(c10::str("model.name: 'convnet' needs images [channels, height, width], but a sample has ",
                               spec.input_shape.size(), " dimension(s); use mlp"));
  }
  const std::int64_t side = std::min(image[1], image[2]);
  if (num_stages >= 63 || (side >> num_stages) < 1) {
    throw ConfigError(c10::str("model.channels: ", num_stages, " stages halve a ", image[1], "x", image[2],
                               " image to nothing; use fewer"));
  }
  return image;
}

}  // namespace

std::shared_ptr<Model> build_convnet(const ModelConfig& config, const SampleSpec& spec) {
  num_input_features(spec, "convnet");  // tokens are not an image
  return std::make_shared<Convnet>(config, image_shape(spec, config.channels.size()), num_outputs(spec, "convnet"));
}

}  // namespace tugline
