// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/state/arena.hpp"

#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tugline/core/error.hpp"
#include "tugline/core/models/module_tensors.hpp"

namespace tugline {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// 1, 2, 3, ...: no zeros, so that padding shows.
at::Tensor counting(std::vector<std::int64_t> shape, at::ScalarType dtype = at::kFloat, bool trainable = true) {
  const std::int64_t count = c10::multiply_integers(shape);
  return torch::arange(1, count + 1, dtype).reshape(shape).requires_grad_(trainable);
}

ArenaOptions buckets_of(std::int64_t bytes) {
  ArenaOptions options;
  options.bucket_bytes = bytes;
  return options;
}

std::vector<std::int64_t> numbers(const Range& range) { return {range.buffer, range.begin, range.end}; }

TEST(ArenaLayout, BucketsInReverseOrderGroupsTogetherEverySlotAligned) {
  std::vector<NamedTensor> parameters = {{"a", counting({3})},       {"frozen", counting({7}, at::kFloat, false)},
                                         {"b", counting({5, 5})},    {"c", counting({2})},
                                         {"large", counting({1000})}};
  ArenaOptions options = buckets_of(512);
  options.group_of = [](const std::string& name) { return name == "b" ? 1 : 0; };
  const Arena arena(parameters, options);

  std::vector<std::string> names;
  for (const auto& slot : arena.slots()) names.push_back(slot.name);
  EXPECT_THAT(names, ElementsAre("a", "b", "c", "large", "frozen"));
  // 16 floats to a cache line. The large one overflows any bucket; a, b, c fill 64 + 128 + 64 bytes of the second.
  ASSERT_EQ(arena.buckets().size(), 2U);
  EXPECT_THAT(arena.buckets()[0].slots, ElementsAre(3));
  EXPECT_THAT(numbers(arena.buckets()[0].range), ElementsAre(0, 0, 1008));
  EXPECT_THAT(arena.buckets()[1].slots, ElementsAre(2, 0, 1));
  EXPECT_THAT(numbers(arena.buckets()[1].range), ElementsAre(0, 1008, 1072));
  EXPECT_THAT(numbers(arena.slots()[2].range), ElementsAre(0, 1008, 1010));
  EXPECT_THAT(numbers(arena.slots()[0].range), ElementsAre(0, 1024, 1027));
  EXPECT_THAT(numbers(arena.slots()[1].range), ElementsAre(0, 1040, 1065));
  EXPECT_THAT(numbers(arena.slots()[4].range), ElementsAre(0, 1072, 1079));
  EXPECT_EQ(arena.slots()[4].bucket, -1);
  EXPECT_EQ(arena.flats()[0].values.numel(), 1088);
  EXPECT_EQ(arena.flats()[0].gradients.numel(), 1072);
  ASSERT_EQ(arena.segments().size(), 3U);
  EXPECT_THAT(numbers(arena.segments()[0].range), ElementsAre(0, 0, 1008));
  EXPECT_THAT(numbers(arena.segments()[1].range), ElementsAre(0, 1008, 1040));
  EXPECT_THAT(numbers(arena.segments()[2].range), ElementsAre(0, 1040, 1072));
  EXPECT_EQ(arena.segments()[2].group, 1);
  EXPECT_EQ(arena.segments()[2].bucket, 1);
  for (const auto& slot : arena.slots()) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(slot.parameter.data_ptr()) % 64, 0U) << slot.name;
  }
  EXPECT_EQ(arena.flats()[0].values.count_nonzero().item<int>(), 3 + 7 + 25 + 2 + 1000) << "padding is zero";
  for (const auto& parameter : parameters) {
    EXPECT_TRUE(torch::equal(parameter.tensor, counting(parameter.tensor.sizes().vec()))) << parameter.name;
  }
}

TEST(ArenaLayout, OneFlatPairPerDtype) {
  std::vector<NamedTensor> parameters = {{"f", counting({5})},
                                         {"d", counting({5}, at::kDouble)},
                                         {"h", counting({5}, at::kBFloat16)},
                                         {"g", counting({5})}};
  const Arena arena(parameters, buckets_of(1 << 20));
  ASSERT_EQ(arena.flats().size(), 3U);
  EXPECT_EQ(arena.flats()[0].values.numel(), 32);
  EXPECT_EQ(arena.flats()[1].values.numel(), 8);
  EXPECT_EQ(arena.flats()[2].values.numel(), 32);
  EXPECT_EQ(arena.buckets().size(), 3U);
  for (const auto& parameter : parameters) {
    EXPECT_TRUE(torch::equal(parameter.tensor, counting({5}, parameter.tensor.scalar_type()))) << parameter.name;
    (parameter.tensor * 3).sum().backward();
    EXPECT_EQ(parameter.tensor.grad().scalar_type(), parameter.tensor.scalar_type());
  }
  for (const auto& flat : arena.flats()) {
    EXPECT_EQ(flat.gradients.sum().item<double>(), flat.values.count_nonzero().item<int>() * 3);
  }
}

TEST(ArenaLayout, AnAllocatorGivesAllMemory) {
  std::vector<std::pair<std::string, std::size_t>> asked;
  std::vector<std::shared_ptr<std::vector<char>>> memory;
  ArenaOptions options;
  options.allocator = [&](std::size_t bytes, const std::string& what) {
    asked.emplace_back(what, bytes);
    memory.push_back(std::make_shared<std::vector<char>>(bytes));
    return std::shared_ptr<void>(memory.back(), memory.back()->data());
  };
  const at::Tensor weight = counting({20});
  const Arena arena({{"weight", weight}, {"frozen", counting({1}, at::kFloat, false)}}, options);
  const auto momentum = arena.like("momentum");
  EXPECT_THAT(asked, ElementsAre(std::pair("parameters", 192U), std::pair("gradients", 128U), std::pair("momentum", 192U)));
  EXPECT_EQ(weight.data_ptr(), memory[0]->data());
  EXPECT_EQ(weight.grad().data_ptr(), memory[1]->data());
  EXPECT_EQ(momentum[0].data_ptr(), memory[2]->data());
  EXPECT_EQ(arena.view(momentum, arena.slots()[1]).data_ptr(), memory[2]->data() + 128);
}

TEST(ArenaBinding, FlatAndParameterAreOneMemoryAndOutliveTheArena) {
  const at::Tensor weight = counting({2, 3});
  {
    const Arena arena({{"weight", weight}}, {});
    (weight * weight).sum().backward();
    EXPECT_TRUE(torch::equal(arena.gradients(arena.slots()[0].range).view({2, 3}), weight.detach() * 2));
    arena.values(arena.buckets()[0].range).sub_(arena.gradients(arena.buckets()[0].range));
  }
  EXPECT_TRUE(torch::equal(weight.detach(), -counting({2, 3}).detach()));
}

TEST(ArenaBinding, TiedParametersCountOnceUnderTheFirstName) {
  const at::Tensor shared = counting({3});
  Arena arena({{"encoder", shared}, {"decoder", shared}}, {});
  ASSERT_EQ(arena.slots().size(), 1U);
  EXPECT_EQ(arena.slots()[0].name, "encoder");
  (shared * 2 + shared * 5).sum().backward();
  EXPECT_EQ(arena.flats()[0].gradients.sum().item<float>(), 7 * 3);
  EXPECT_EQ(arena.rebind(), 0);
}

TEST(ArenaBinding, ChannelsLastWeightsKeepTheirStrides) {
  torch::manual_seed(1);
  const auto format = at::MemoryFormat::ChannelsLast;
  const at::Tensor weight = torch::randn({4, 3, 2, 2}).contiguous(format).requires_grad_(true);
  const at::Tensor twin = weight.detach().clone().requires_grad_(true);
  const at::Tensor input = torch::randn({2, 3, 5, 5}).contiguous(format);
  Arena arena({{"weight", weight}}, {});
  for (const at::Tensor& each : {weight, twin}) torch::conv2d(input, each).square().sum().backward();
  EXPECT_TRUE(weight.is_contiguous(format));
  EXPECT_EQ(weight.grad().strides(), weight.strides());
  EXPECT_EQ(arena.view(arena.like("momentum"), arena.slots()[0]).strides(), weight.strides());
  EXPECT_TRUE(torch::equal(weight.grad(), twin.grad()));
  const Range& range = arena.slots()[0].range;
  arena.values(range).sub_(arena.gradients(range));
  EXPECT_TRUE(torch::equal(weight, twin.detach() - twin.grad()));

  // Another memory format later: contents stay, strides are those of gradients and optimizer slots again.
  weight.set_data(weight.detach().contiguous());
  EXPECT_EQ(arena.rebind(), 1);
  EXPECT_EQ(weight.strides(), weight.grad().strides());
  EXPECT_TRUE(torch::equal(weight, twin.detach() - twin.grad()));
}

TEST(ArenaBinding, BuffersOfAModuleToo) {
  torch::nn::BatchNorm1d norm(4);
  Arena buffers(named_buffers_of(*norm), {});
  ASSERT_EQ(buffers.flats().size(), 2U);
  EXPECT_TRUE(buffers.buckets().empty());
  for (const auto& flat : buffers.flats()) EXPECT_FALSE(flat.gradients.defined());
  norm->forward(torch::randn({8, 4}) + 5);
  norm->forward(torch::randn({8, 4}) + 5);
  EXPECT_EQ(buffers.rebind(), 0);
  for (const auto& slot : buffers.slots()) {
    const at::Tensor flat = buffers.values(slot.range);
    EXPECT_EQ(slot.name != "num_batches_tracked" || flat.item<std::int64_t>() == 2, true);
    EXPECT_EQ(slot.name != "running_mean" || flat.min().item<float>() > 0.5, true);
  }
}

TEST(ArenaBinding, SurvivesWhatBackwardDoes) {
  const at::Tensor table = counting({6, 2}), weight = counting({2});
  Arena arena({{"table", table}, {"weight", weight}, {"unused", counting({3})}, {"empty", counting({0, 4})}}, {});
  const at::Tensor rows = torch::tensor({1, 4, 1});
  const auto loss = [&] { return (torch::embedding(table, rows, -1, false, true) * weight).sum(); };
  const at::Tensor kept = loss();
  kept.backward({}, true);
  kept.backward();
  loss().backward();
  EXPECT_TRUE(torch::equal(table.grad()[1], 6 * weight.detach()));
  EXPECT_TRUE(torch::equal(table.grad()[4], 3 * weight.detach()));
  EXPECT_TRUE(torch::equal(weight.grad(), 3 * table.detach().index_select(0, rows).sum(0)));
  const auto first = torch::autograd::grad({(weight * weight * weight).sum()}, {weight}, {}, true, true);
  const auto second = torch::autograd::grad({first[0].sum()}, {weight});
  EXPECT_TRUE(torch::equal(second[0], 6 * weight.detach()));
  torch::optim::SGD(std::vector<at::Tensor>{table, weight}, 0.1).zero_grad(false);
  EXPECT_EQ(arena.rebind(), 0);
  EXPECT_EQ(arena.flats()[0].gradients.count_nonzero().item<int>(), 0);
}

/// A module in an arena, for the ways in which a binding breaks.
class BrokenBinding : public testing::Test {
 protected:
  BrokenBinding() : arena_(named_parameters_of(*linear_), {}) { backward(); }
  void backward(bool create_graph = false) {
    (linear_->weight.square().sum() + linear_->bias.sum()).backward({}, create_graph, create_graph);
  }
  void expect_bound(const at::Tensor& weight, double weight_gradients, double bias_gradients) {
    EXPECT_EQ(arena_.rebind(), 0);
    EXPECT_TRUE(torch::equal(linear_->weight, weight));
    EXPECT_EQ(linear_->weight.scalar_type(), at::kFloat);
    EXPECT_TRUE(torch::equal(arena_.values(arena_.slots()[0].range).view({2, 3}), weight));
    EXPECT_TRUE(torch::allclose(linear_->weight.grad(), weight * weight_gradients));
    EXPECT_TRUE(torch::equal(arena_.gradients(arena_.slots()[0].range).view({2, 3}), linear_->weight.grad()));
    EXPECT_EQ(arena_.gradients(arena_.slots()[1].range).sum().item<float>(), 2 * bias_gradients);
  }

  torch::nn::Linear linear_{3, 2};
  Arena arena_;
};

TEST_F(BrokenBinding, GradientsSetToNoneCountAsZero) {
  torch::optim::SGD(linear_->parameters(), 0.1).zero_grad();
  EXPECT_EQ(arena_.rebind(), 2);
  expect_bound(linear_->weight.detach().clone(), 0, 0);
  linear_->zero_grad();
  backward();
  linear_->bias.mutable_grad() = at::Tensor();
  EXPECT_EQ(arena_.rebind(), 2);
  expect_bound(linear_->weight.detach().clone(), 2, 0);
}

TEST_F(BrokenBinding, GradientsReplacedByAGraph) {
  backward(true);
  EXPECT_EQ(arena_.rebind(), 2);
  expect_bound(linear_->weight.detach().clone(), 4, 2);
  EXPECT_FALSE(linear_->weight.grad().requires_grad());
  backward(true);
  arena_.zero_gradients();
  expect_bound(linear_->weight.detach().clone(), 0, 0);
}

TEST_F(BrokenBinding, SparseGradientsComeInDense) {
  torch::nn::Embedding table(torch::nn::EmbeddingOptions(4, 2).sparse(true));
  Arena arena(named_parameters_of(*table), {});
  table->zero_grad();
  table->forward(torch::tensor({2, 2})).sum().backward();
  ASSERT_TRUE(table->weight.grad().is_sparse());
  EXPECT_EQ(arena.rebind(), 1);
  EXPECT_THAT(std::vector<float>(arena.flats()[0].gradients.data_ptr<float>(), arena.flats()[0].gradients.data_ptr<float>() + 8),
              ElementsAre(0, 0, 0, 0, 2, 2, 0, 0));
}

TEST_F(BrokenBinding, LoadedFromAFile) {
  torch::nn::Linear other(3, 2);
  std::stringstream file;
  torch::save(other, file);
  torch::load(linear_, file);
  EXPECT_GE(arena_.rebind(), 2);
  EXPECT_TRUE(torch::equal(linear_->weight, other->weight));
  EXPECT_EQ(linear_->weight.data_ptr(), arena_.values(arena_.slots()[0].range).data_ptr());
}

TEST_F(BrokenBinding, AnotherTypeGoesBackToTheArenas) {
  linear_->to(at::kDouble);
  EXPECT_GE(arena_.rebind(), 2);
  expect_bound(linear_->weight.detach().clone(), 2, 1);
  arena_.zero_gradients();
  backward();
  expect_bound(linear_->weight.detach().clone(), 2, 1);
}

TEST_F(BrokenBinding, AnotherShapeIsRefusedAndNothingIsOverwritten) {
  const at::Tensor bias = linear_->bias.detach().clone();
  linear_->weight.set_data(torch::ones({20, 30}));
  try {
    arena_.rebind();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("'weight'"), HasSubstr("[2, 3]"), HasSubstr("[20, 30]")));
  }
  EXPECT_TRUE(torch::equal(linear_->bias, bias));
}

TEST(ArenaBinding, RefusesWhatCannotLieInIt) {
  const at::Tensor sparse = torch::eye(3).to_sparse();
  try {
    Arena({{"adjacency", sparse}}, {});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("'adjacency'"));
  }
}

}  // namespace
}  // namespace tugline
