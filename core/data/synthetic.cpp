// SPDX-License-Identifier: Apache-2.0
// Random inputs judged by a random linear teacher: learnable by construction, and as hard as its noise.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/memory_dataset.hpp"
#include "tugline/core/data/source.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/random.hpp"

namespace tugline {
namespace {

/// Weights [outputs, features], scaled so that every output of a standard normal input has variance 1.
std::vector<float> make_teacher(const DataConfig& config, std::int64_t outputs) {
  Random random(config.seed, Purpose::synthetic, 0);
  std::vector<float> weights(outputs * config.features);
  const double scale = 1 / std::sqrt(static_cast<double>(config.features));
  for (float& weight : weights) weight = static_cast<float>(scale * random.normal());
  return weights;
}

void check(const DataConfig& config) {
  const auto at_least = [](const char* key, std::int64_t value, std::int64_t least) {
    if (value < least) throw ConfigError(fmt::format("data.{}: {} is too small: at least {}", key, value, least));
  };
  at_least("samples", config.samples, 1);
  at_least("features", config.features, 1);
  at_least("classes", config.classes, 2);
  at_least("outputs", config.outputs, 1);
  if (!(config.noise >= 0)) throw ConfigError(fmt::format("data.noise: {} must not be negative", config.noise));
}

}  // namespace

Sources open_synthetic(const DataConfig& config) {
  check(config);
  const bool classified = config.target == "class";
  const std::int64_t outputs = classified ? config.classes : config.outputs;
  const std::vector<float> teacher = make_teacher(config, outputs);

  std::vector<float> inputs(config.samples * config.features), values(config.samples * outputs);
  for (std::int64_t i = 0; i < config.samples; ++i) {
    // A stream per sample: more samples leave the first ones as they are.
    Random random(config.seed, Purpose::synthetic, 1, static_cast<std::uint64_t>(i));
    float* input = inputs.data() + i * config.features;
    for (std::int64_t f = 0; f < config.features; ++f) input[f] = static_cast<float>(random.normal());
    for (std::int64_t o = 0; o < outputs; ++o) {
      double value = config.noise * random.normal();
      for (std::int64_t f = 0; f < config.features; ++f)
        value += static_cast<double>(teacher[o * config.features + f]) * input[f];
      values[i * outputs + o] = static_cast<float>(value);
    }
  }

  Sources sources;
  sources.name = "synthetic";
  SampleSpec spec;
  spec.input_shape = {config.features};
  if (!classified) {
    spec.target_shape = {outputs};
    spec.target_dtype = DType::float32;
    sources.train.data = std::make_shared<MemoryDataset>(spec, config.samples, std::move(inputs), std::move(values));
    return sources;
  }
  spec.num_classes = config.classes;
  auto& classes = sources.train.classes;
  for (std::int64_t i = 0; i < config.samples; ++i) {
    const auto row = values.begin() + i * outputs;
    classes.push_back(std::max_element(row, row + outputs) - row);
  }
  sources.train.data = std::make_shared<MemoryDataset>(spec, config.samples, std::move(inputs), classes);
  return sources;
}

}  // namespace tugline
