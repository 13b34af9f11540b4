// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/models/batch_norm.hpp"

#include <barrier>
#include <numeric>
#include <thread>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/models/registry.hpp"

namespace tugline {
namespace {

/// Ranks are threads; every rank gets the sum in rank order.
class ThreadSum {
 public:
  explicit ThreadSum(std::size_t ranks) : parts_(ranks), barrier_(static_cast<std::ptrdiff_t>(ranks)) {}

  AllReduce hook(std::size_t rank) {
    return [this, rank](at::Tensor& mine) {
      parts_[rank] = mine.clone();
      barrier_.arrive_and_wait();
      const at::Tensor sum = std::accumulate(parts_.begin() + 1, parts_.end(), parts_.front());
      barrier_.arrive_and_wait();
      mine.copy_(sum);
      ++calls_[rank];
    };
  }
  int calls(std::size_t rank) { return calls_[rank]; }

 private:
  std::vector<at::Tensor> parts_;
  std::map<std::size_t, int> calls_{{0, 0}, {1, 0}, {2, 0}, {3, 0}};
  std::barrier<> barrier_;
};

/// A small convnet in float64 whose batch norms have weights other than 1, in training mode.
std::shared_ptr<Model> convnet(const std::string& mode) {
  ModelConfig config;
  config.name = "convnet";
  config.channels = {4, 6};
  config.norm = "batch";
  config.batch_norm = mode;
  config.activation = "tanh";
  const SampleSpec spec{.input_shape = {2, 8, 8}, .num_classes = 5};
  auto model = ModelRegistry().build(config, spec, 3);
  model->to(at::kDouble);
  const at::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) {
    if (item.key().starts_with("norm")) item.value().add_(torch::arange(item.value().numel()) * 0.1);
  }
  return model;
}

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

struct RankResult {
  at::Tensor output, input_gradient;
  std::vector<at::Tensor> gradients, buffers;
};

RankResult forward_and_backward(Model& model, const at::Tensor& part, const at::Tensor& output_weights) {
  at::Tensor input = part.clone().requires_grad_(true);
  RankResult result;
  result.output = model.forward(input);
  (result.output * output_weights).square().sum().backward();
  result.input_gradient = input.grad();
  for (const auto& p : model.parameters()) result.gradients.push_back(p.grad());
  result.buffers = model.buffers();
  return result;
}

void expect_sync_equals_one_process(const std::vector<std::int64_t>& shares) {
  const std::int64_t batch = std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
  torch::manual_seed(11);
  const at::Tensor input =
      torch::randn({batch, 2, 8, 8}, at::kDouble) * 3 + 50;  // a mean that would cost float32 sums digits
  const at::Tensor weights = torch::randn({batch, 5}, at::kDouble);
  const auto whole_model = convnet("local");
  const RankResult whole = forward_and_backward(*whole_model, input, weights);

  const std::size_t ranks = shares.size();
  ThreadSum sum(ranks);
  std::vector<RankResult> parts(ranks);
  std::vector<std::thread> threads;
  std::int64_t begin = 0;
  for (std::size_t r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r, begin] {
      const auto model = convnet("sync");
      set_batch_norm_reduction(*model, sum.hook(r));
      parts[r] = forward_and_backward(*model, input.narrow(0, begin, shares[r]), weights.narrow(0, begin, shares[r]));
    });
    begin += shares[r];
  }
  for (auto& thread : threads) thread.join();

  std::vector<at::Tensor> outputs, input_gradients;
  for (const RankResult& part : parts) {
    outputs.push_back(part.output);
    input_gradients.push_back(part.input_gradient);
  }
  EXPECT_LE(relative_difference(torch::cat(outputs), whole.output), 1e-12);
  EXPECT_LE(relative_difference(torch::cat(input_gradients), whole.input_gradient), 1e-12);
  for (std::size_t p = 0; p < whole.gradients.size(); ++p) {
    at::Tensor total = torch::zeros_like(whole.gradients[p]);
    for (const RankResult& part : parts) total += part.gradients[p];
    EXPECT_LE(relative_difference(total, whole.gradients[p]), 1e-12) << "parameter " << p;
  }
  for (std::size_t r = 0; r < ranks; ++r) {
    for (std::size_t b = 0; b < whole.buffers.size(); ++b) {
      EXPECT_TRUE(torch::allclose(parts[r].buffers[b], whole.buffers[b], 1e-13, 1e-13)) << "rank " << r << " buffer " << b;
    }
    EXPECT_EQ(sum.calls(r), 4) << "two layers, forward and backward";
  }
}

TEST(SyncBatchNorm, EqualShares) { expect_sync_equals_one_process({3, 3}); }
TEST(SyncBatchNorm, UnequalSharesWeighSamplesNotRanks) { expect_sync_equals_one_process({5, 2, 1}); }
TEST(SyncBatchNorm, FourRanksOfOneSample) { expect_sync_equals_one_process({1, 1, 1, 1}); }
TEST(SyncBatchNorm, OneRank) { expect_sync_equals_one_process({4}); }

TEST(SyncBatchNorm, ReadsFeaturesWithoutPixels) {
  BatchNorm local(3, BatchNormMode::local), sync(3, BatchNormMode::sync);
  sync.set_reduction([](at::Tensor&) {});
  const at::Tensor input = torch::randn({6, 3});
  EXPECT_TRUE(torch::allclose(local.forward(input), sync.forward(input), 1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose(local.buffers()[1], sync.buffers()[1], 1e-5, 1e-6));
}

TEST(SyncBatchNorm, Float32AddsInFloat64) {
  BatchNorm sync(1, BatchNormMode::sync);
  at::ScalarType seen = at::kHalf;
  sync.set_reduction([&](at::Tensor& sums) { seen = sums.scalar_type(); });
  const at::Tensor input = torch::arange(8, at::kFloat).view({8, 1}) + 4096;
  const at::Tensor output = sync.forward(input);
  EXPECT_EQ(seen, at::kDouble);
  EXPECT_NEAR(output.std(0, /*unbiased=*/false).item<double>(), 1, 1e-4);
}

TEST(SyncBatchNorm, RefusesARankWithoutSamples) {
  BatchNorm sync(3, BatchNormMode::sync);
  sync.set_reduction([](at::Tensor&) { FAIL() << "nothing to reduce"; });
  EXPECT_THROW(sync.forward(torch::zeros({0, 3, 2, 2})), Error);
}

TEST(BatchNorm, LocalEqualsTorch) {
  torch::manual_seed(1);
  BatchNorm ours(3, BatchNormMode::local);
  torch::nn::BatchNorm2d theirs(3);
  const AllReduce never = [](at::Tensor&) { FAIL() << "local mode must not reduce"; };
  set_batch_norm_reduction(ours, never);
  for (int i = 0; i < 3; ++i) {
    const at::Tensor input = torch::randn({4, 3, 5, 5});
    EXPECT_TRUE(torch::equal(ours.forward(input), theirs(input)));
  }
  const auto a = ours.named_buffers(), b = theirs->named_buffers();
  ASSERT_EQ(a.size(), b.size());
  for (const auto& item : b) EXPECT_TRUE(torch::equal(a[item.key()], item.value())) << item.key();
  ours.eval();
  theirs->eval();
  const at::Tensor input = torch::randn({4, 3, 5, 5});
  EXPECT_TRUE(torch::equal(ours.forward(input), theirs(input)));
  EXPECT_EQ(ours.named_buffers()["num_batches_tracked"].item<std::int64_t>(), 3);
}

TEST(BatchNorm, EvaluationNeverReduces) {
  const auto model = convnet("sync");
  set_batch_norm_reduction(*model, [](at::Tensor&) { FAIL() << "evaluation must not reduce"; });
  model->eval();
  model->forward(torch::randn({2, 2, 8, 8}, at::kDouble));
  set_batch_norm_reduction(*model, nullptr);
  model->train();
  model->forward(torch::randn({2, 2, 8, 8}, at::kDouble));
}

TEST(BatchNorm, IsFoundAtAnyDepth) {
  EXPECT_TRUE(has_batch_norm(*convnet("local")));
  struct Outer : torch::nn::Module {
    Outer() { register_module("inner", torch::nn::Sequential(torch::nn::Linear(2, 2), torch::nn::BatchNorm1d(2))); }
  };
  EXPECT_TRUE(has_batch_norm(Outer()));
  EXPECT_TRUE(has_batch_norm(BatchNorm(2, BatchNormMode::local)));
  EXPECT_FALSE(has_batch_norm(*torch::nn::Sequential(torch::nn::Linear(2, 2))));
}

}  // namespace
}  // namespace tugline
