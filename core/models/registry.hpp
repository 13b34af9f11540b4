// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <torch/nn/module.h>

namespace tugline {

struct ModelConfig;
struct SampleSpec;

/// A model maps a batch of inputs to outputs: logits [batch, classes], values [batch, outputs] or logits
/// [batch, time, vocabulary]. Parameters and buffers are registered as with any torch::nn::Module.
class Model : public torch::nn::Module {
 public:
  virtual at::Tensor forward(const at::Tensor& input) = 0;
};

/// Builds a model; reads its own settings from the config. Throws ConfigError when data and model do not fit.
using ModelBuilder = std::function<std::shared_ptr<Model>(const ModelConfig&, const SampleSpec&)>;

/// Name -> builder. The shipped models are there from the start; a user's own program adds to it.
class ModelRegistry {
 public:
  ModelRegistry();  ///< linear, mlp, convnet, transformer
  /// Throws Error when the name is taken.
  void add(std::string name, std::string help, ModelBuilder builder);
  /// Builds with weights that depend on `seed` alone (not on rank, thread count or what was drawn before).
  /// Throws ConfigError naming the nearest known model when the name is unknown.
  std::shared_ptr<Model> build(const ModelConfig& config, const SampleSpec& spec, std::uint64_t seed) const;

  struct Entry {
    std::string name;
    std::string help;
    ModelBuilder builder;
  };
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
};

}  // namespace tugline
