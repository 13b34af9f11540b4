// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <vector>

#include "tugline/core/data/memory_dataset.hpp"
#include "tugline/core/models/registry.hpp"
#include "tugline/core/random.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/overfit/overfit.hpp"

namespace tugline {

constexpr std::int64_t kFeatures = 8, kClasses = 4;

/// Random points with classes in turn: nothing to generalise from, but easy to learn by heart.
inline std::shared_ptr<MemoryDataset> random_points(std::int64_t count = 40) {
  SampleSpec spec;
  spec.input_shape = {kFeatures};
  spec.num_classes = kClasses;
  Random random(7, Purpose::synthetic);
  std::vector<float> inputs;
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t f = 0; f < kFeatures; ++f) inputs.push_back(static_cast<float>(random.normal()));
    labels.push_back(i % kClasses);
  }
  return std::make_shared<MemoryDataset>(spec, count, std::move(inputs), std::move(labels));
}

/// A small perceptron that passes within some dozens of steps.
inline RunConfig small_config(const std::string& model = "mlp") {
  RunConfig config;
  config.name = "small";
  config.model.name = model;
  config.model.hidden = {16};
  config.optim.lr = 0.1;
  config.overfit.steps = 200;
  config.parallel.bucket_mib = 1e-4;         // several buckets
  return config;
}

/// The gate on `ranks` ranks that are threads; `wrap` may replace the communicator of gradients.
struct GateLab {
  int ranks = 1;
  RunConfig config = small_config();
  ModelRegistry models;
  std::shared_ptr<const Dataset> train = random_points();
  OverfitParts parts;
  std::function<std::unique_ptr<Communicator>(std::unique_ptr<Communicator>)> wrap;

  OverfitVerdict run() const {
    std::vector<OverfitVerdict> verdicts(static_cast<std::size_t>(ranks));
    run_thread_team(ranks, [&](std::unique_ptr<Communicator> communicator) {
      const int rank = communicator->rank();
      World world(wrap ? wrap(std::move(communicator)) : std::move(communicator));
      verdicts[static_cast<std::size_t>(rank)] = overfit(world, config, models, train, parts);
    });
    for (const auto& verdict : verdicts) {
      EXPECT_EQ(verdict.reason, verdicts.front().reason);
      EXPECT_EQ(verdict.explanation, verdicts.front().explanation);
      EXPECT_EQ(verdict.steps, verdicts.front().steps);
    }
    return verdicts.front();
  }
};

}  // namespace tugline
