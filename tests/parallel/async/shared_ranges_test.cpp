// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/async/shared_ranges.hpp"

#include <atomic>
#include <thread>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/optim/optimizer.hpp"

namespace tugline {
namespace {

/// Each look at it takes a second.
class TickingClock final : public Clock {
 public:
  double seconds() const override { return static_cast<double>(now_++); }

 private:
  mutable std::atomic<int> now_{0};
};

TEST(SharedRanges, WhatAnotherThreadAppliesIsServing) {
  at::Tensor weight = torch::ones({4}).requires_grad_();
  Arena arena({{"weight", weight}}, {});
  const std::vector<at::Tensor> common = arena.like("common parameters");
  const OptimConfig config;
  const auto optimizer = make_optimizer(config, arena, common);
  const TickingClock clock;
  SharedRanges ranges(arena, *optimizer, common, Schedule(config, {10, 5, 1}), {}, clock);
  ranges.apply(0, {}, true);
  std::thread([&] {
    for (int i = 0; i < 2; ++i) ranges.apply(0, {}, true);
  }).join();
  const auto spent = ranges.take_spent();
  EXPECT_EQ(spent.apply_seconds, 1);
  EXPECT_EQ(spent.serve_seconds, 2);
  EXPECT_EQ(ranges.take_spent().serve_seconds, 0);
}

}  // namespace
}  // namespace tugline
