// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include <ATen/ops/dropout.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/util/StringUtil.h>
#include <torch/nn/init.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/models/builders.hpp"

namespace tugline {
namespace {

torch::nn::LayerNorm layer_norm(std::int64_t width) { return torch::nn::LayerNorm(torch::nn::LayerNormOptions({width})); }

/// Pre-norm: x + attention(norm(x)), then x + feed_forward(norm(x)).
class Block : public torch::nn::Module {
 public:
  explicit Block(const ModelConfig& config)
      : heads_(config.heads),
        dropout_(config.dropout),
        activation_(activation_named(config.activation)),
        attention_norm_(register_module("attention_norm", layer_norm(config.width))),
        qkv_(register_module("qkv", torch::nn::Linear(config.width, 3 * config.width))),
        attention_out_(register_module("attention_out", torch::nn::Linear(config.width, config.width))),
        feed_norm_(register_module("feed_norm", layer_norm(config.width))),
        feed_in_(register_module("feed_in", torch::nn::Linear(config.width, 4 * config.width))),
        feed_out_(register_module("feed_out", torch::nn::Linear(4 * config.width, config.width))) {
    // Each block adds twice to the residual stream; shrinking what it adds keeps the stream's size independent of depth.
    const double residual_std = 0.02 / std::sqrt(2.0 * static_cast<double>(config.layers));
    const auto init = [](torch::nn::Linear& layer, double stddev) {
      torch::nn::init::normal_(layer->weight, 0, stddev);
      torch::nn::init::zeros_(layer->bias);
    };
    init(qkv_, 0.02);
    init(feed_in_, 0.02);
    init(attention_out_, residual_std);
    init(feed_out_, residual_std);
  }

  at::Tensor forward(const at::Tensor& input) {  // [batch, time, width]
    const at::Tensor x = input + drop(attention(attention_norm_(input)));
    return x + drop(feed_out_(activation_(feed_in_(feed_norm_(x)))));
  }

 private:
  at::Tensor attention(const at::Tensor& x) {
    // [batch, time, 3, heads, width / heads] -> three of [batch, heads, time, width / heads]
    const auto parts = qkv_(x).unflatten(-1, {3, heads_, x.size(-1) / heads_}).permute({2, 0, 3, 1, 4}).unbind(0);
    const at::Tensor mixed = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], /*attn_mask=*/{},
                                                              /*dropout_p=*/0.0, /*is_causal=*/true);
    return attention_out_(mixed.transpose(1, 2).flatten(2));
  }

  at::Tensor drop(const at::Tensor& x) const { return dropout_ > 0 ? at::dropout(x, dropout_, is_training()) : x; }

  std::int64_t heads_;
  double dropout_;
  Activation activation_;
  torch::nn::LayerNorm attention_norm_;
  torch::nn::Linear qkv_, attention_out_;
  torch::nn::LayerNorm feed_norm_;
  torch::nn::Linear feed_in_, feed_out_;
};

/// Decoder-only language model: tokens [batch, time] -> logits [batch, time, vocabulary] of each next token.
class Transformer : public Model {
 public:
  Transformer(const ModelConfig& config, std::int64_t vocabulary, std::int64_t context)
      : dropout_(config.dropout),
        tokens_(register_module("tokens", torch::nn::Embedding(vocabulary, config.width))),
        positions_(register_module("positions", torch::nn::Embedding(context, config.width))) {
    torch::nn::init::normal_(tokens_->weight, 0, 0.02);
    torch::nn::init::normal_(positions_->weight, 0, 0.02);
    for (std::int64_t i = 0; i < config.layers; ++i) {
      blocks_.push_back(register_module(c10::str("block", i), std::make_shared<Block>(config)));
    }
    norm_ = register_module("norm", layer_norm(config.width));
    if (!config.tied) {
      output_ =
          register_module("output", torch::nn::Linear(torch::nn::LinearOptions(config.width, vocabulary).bias(false)));
      torch::nn::init::normal_(output_->weight, 0, 0.02);
    }
  }

  at::Tensor forward(const at::Tensor& input) override {
    const std::int64_t context = positions_->weight.size(0);
    if (input.size(1) > context) {
      throw Error(c10::str("transformer: ", input.size(1), " tokens given, but the model was built for at most ", context));
    }
    at::Tensor x = tokens_(input) + positions_->weight.narrow(0, 0, input.size(1));
    if (dropout_ > 0) x = at::dropout(x, dropout_, is_training());
    for (auto& block : blocks_) x = block->forward(x);
    // Tied: the one registered tensor is used twice, so it is one parameter with one gradient.
    return at::linear(norm_(x), output_ ? output_->weight : tokens_->weight);
  }

 private:
  double dropout_;
  torch::nn::Embedding tokens_, positions_;
  std::vector<std::shared_ptr<Block>> blocks_;
  torch::nn::LayerNorm norm_{nullptr};
  torch::nn::Linear output_{nullptr};
};

}  // namespace

std::shared_ptr<Model> build_transformer(const ModelConfig& config, const SampleSpec& spec) {
  if (spec.input_dtype != DType::int64 || spec.input_shape.size() != 1 || spec.num_classes == 0 ||
      spec.target_shape != spec.input_shape) {
    throw ConfigError("model.name: 'transformer' needs data of tokens [time] with a target for each; use data.name: text");
  }
  if (config.heads < 1 || config.width % config.heads != 0) {
    throw ConfigError(c10::str("model.width: ", config.width, " is not a multiple of model.heads: ", config.heads));
  }
  return std::make_shared<Transformer>(config, spec.num_classes, spec.input_shape[0]);
}

}  // namespace tugline
