// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/core/state/arena.hpp"

namespace tugline {

/// Three parameters in an arena and their twins for torch::optim; gradients are the same for both.
class Pair {
 public:
  explicit Pair(at::ScalarType dtype, std::int64_t bucket_bytes = 1 << 20) {
    torch::manual_seed(4);
    const std::vector<std::vector<std::int64_t>> shapes = {{37, 53}, {53}, {20, 53}};
    std::vector<NamedTensor> named;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const at::Tensor value = torch::randn(shapes[i], dtype);
      theirs.push_back(value.clone().requires_grad_(true));
      ours.push_back(value.clone().requires_grad_(true));
      named.push_back({"p" + std::to_string(i), ours.back()});
    }
    ArenaOptions options;
    options.bucket_bytes = bucket_bytes;
    arena = std::make_unique<Arena>(named, options);
  }

  /// Fresh gradients, the same ones for every pair; ours may be scaled away from theirs, for grad_scale to scale them back.
  void draw_gradients(double scale_of_ours = 1) {
    torch::manual_seed(++draws_);
    for (std::size_t i = 0; i < ours.size(); ++i) {
      const at::Tensor gradient = torch::randn_like(theirs[i]);
      theirs[i].mutable_grad() = gradient.clone();
      ours[i].mutable_grad().copy_(gradient * scale_of_ours);
    }
  }

  void step_all(Optimizer& optimizer, double lr, std::int64_t step, double grad_scale = 1) {
    for (const auto& segment : arena->segments()) optimizer.step(segment.range, segment.group, {.lr = lr, .number = static_cast<double>(step), .grad_scale = grad_scale});
  }

  bool equal() const {
    return std::equal(ours.begin(), ours.end(), theirs.begin(),
                      [](const auto& a, const auto& b) { return torch::equal(a, b); });
  }
  /// Largest difference, relative to the largest parameter.
  double difference() const {
    double worst = 0;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      worst = std::max(worst, ((ours[i] - theirs[i]).abs().max() / theirs[i].abs().max()).item<double>());
    }
    return worst;
  }

  std::vector<at::Tensor> ours, theirs;
  std::unique_ptr<Arena> arena;

 private:
  std::uint64_t draws_ = 0;
};

inline OptimConfig sgd(double momentum, double dampening, bool nesterov, double weight_decay) {
  OptimConfig config;
  config.momentum = momentum;
  config.dampening = dampening;
  config.nesterov = nesterov;
  config.weight_decay = weight_decay;
  return config;
}

inline OptimConfig named(const std::string& name, double weight_decay) {
  OptimConfig config;
  config.name = name;
  config.weight_decay = weight_decay;
  config.lr_decay = 0.01;
  return config;
}

}  // namespace tugline
