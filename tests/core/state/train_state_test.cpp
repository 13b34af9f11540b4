// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/state/train_state.hpp"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/models/module_tensors.hpp"
#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// A channels_last convolution, a norm with buffers, a weight used under two names, a frozen one and one in double precision.
struct Net : torch::nn::Module {
  Net() {
    conv->weight.set_data(conv->weight.contiguous(at::MemoryFormat::ChannelsLast));
    register_module("conv", conv);
    register_module("norm", norm);
    register_module("encoder", tied);
    register_module("decoder", tied);
    register_parameter("frozen", torch::randn({3}), false);
    register_parameter("scale", torch::randn({2, 2}, at::kDouble));
    register_buffer("count", torch::randint(100, {2}, at::kInt));
  }
  torch::nn::Conv2d conv{torch::nn::Conv2dOptions(3, 4, 2)};
  torch::nn::BatchNorm2d norm{4};
  torch::nn::Linear tied{5, 5};
};

OptimConfig optimizer_named(const std::string& name) {
  OptimConfig config;
  config.name = name;
  return config;
}

/// A net, its optimizer and all that goes into a checkpoint.
struct Learning {
  Learning(const std::string& optimizer_name, std::int64_t bucket_bytes, std::uint64_t seed)
      : optim(optimizer_named(optimizer_name)) {
    torch::manual_seed(seed);
    net = std::make_shared<Net>();
    ArenaOptions options;
    options.bucket_bytes = bucket_bytes;
    parameters = std::make_unique<Arena>(named_parameters_of(*net), options);
    buffers = std::make_unique<Arena>(named_buffers_of(*net), ArenaOptions{});
    optimizer = make_optimizer(optim, *parameters);
    state = std::make_unique<TrainState>(TrainState{*parameters, *buffers, optimizer->slots(), {}, {}});
  }
  /// Gradients by name, so that another layout gets the same ones; buffers move too.
  void step(std::int64_t number) {
    for (const auto& slot : parameters->slots()) {
      if (slot.bucket < 0) continue;
      torch::manual_seed(static_cast<std::uint64_t>(number) * 1000 + slot.name.size());
      at::Tensor(slot.parameter.grad()).copy_(torch::randn(slot.parameter.sizes(), slot.parameter.scalar_type()));
    }
    for (const auto& segment : parameters->segments()) optimizer->step(segment.range, segment.group, {.lr = 0.1, .number = static_cast<double>(number)});
    for (const auto& flat : buffers->flats()) at::Tensor(flat.values).add_(number);
  }
  Snapshot snapshot() const {
    Snapshot snapshot;
    snapshot.take(*state, "seed: 5\n");
    return snapshot;
  }

  OptimConfig optim;
  std::shared_ptr<Net> net;
  std::unique_ptr<Arena> parameters, buffers;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<TrainState> state;
};

/// Every tensor by name: parameters, buffers and optimizer slots, bit for bit.
void expect_same_bits(const Learning& a, const Learning& b) {
  const auto compare = [](const Arena& one, const Arena& other, const std::string& what, auto view) {
    ASSERT_EQ(one.slots().size(), other.slots().size());
    for (std::size_t i = 0; i < one.slots().size(); ++i) {
      EXPECT_EQ(one.slots()[i].name, other.slots()[i].name);
      const auto [mine, theirs] = view(i);
      EXPECT_TRUE(torch::equal(mine, theirs)) << what << ' ' << one.slots()[i].name;
    }
  };
  for (const auto arena : {&Learning::parameters, &Learning::buffers}) {
    const Arena &one = *(a.*arena), &other = *(b.*arena);
    compare(one, other, "value", [&](std::size_t i) { return std::pair(one.slots()[i].parameter, other.slots()[i].parameter); });
  }
  ASSERT_EQ(a.state->slots.size(), b.state->slots.size());
  for (std::size_t s = 0; s < a.state->slots.size(); ++s) {
    compare(*a.parameters, *b.parameters, a.state->slots[s].name, [&](std::size_t i) {
      return std::pair(a.parameters->view(a.state->slots[s].buffers, a.parameters->slots()[i]),
                       b.parameters->view(b.state->slots[s].buffers, b.parameters->slots()[i]));
    });
  }
}

class TrainStateFile : public TemporaryFolder {
 protected:
  Checkpoint through_a_file(Snapshot snapshot) const {
    write_checkpoint(folder_ / "state.h5", snapshot.content());
    return read_checkpoint(folder_ / "state.h5");
  }
};

TEST_F(TrainStateFile, ContinuesBitForBitWithEveryOptimizerAndAnotherLayout) {
  for (const char* name : {"sgd", "adam", "adamw", "adagrad"}) {
    SCOPED_TRACE(name);
    Learning never_stopped(name, 1 << 20, 1);
    for (std::int64_t number = 1; number <= 3; ++number) never_stopped.step(number);
    const Snapshot snapshot = never_stopped.snapshot();
    Learning resumed(name, 128, 2);
    resumed.step(1);   // what it had is overwritten
    ASSERT_NE(resumed.parameters->buckets().size(), never_stopped.parameters->buckets().size());
    never_stopped.step(4);   // a snapshot is a copy
    restore(through_a_file(snapshot), *resumed.state);
    EXPECT_EQ(resumed.parameters->rebind() + resumed.buffers->rebind(), 0);
    EXPECT_TRUE(resumed.net->conv->weight.is_contiguous(at::MemoryFormat::ChannelsLast));
    resumed.step(4);
    expect_same_bits(never_stopped, resumed);
  }
}

TEST_F(TrainStateFile, HoldsEveryTensorOnceUnderItsName) {
  const Learning learning("adam", 1 << 20, 1);
  const Checkpoint checkpoint = through_a_file(learning.snapshot());
  std::vector<std::string> paths;
  for (const auto& [path, array] : checkpoint.arrays) paths.push_back(path);
  std::vector<std::string> expected = {"/buffers/count", "/buffers/norm.num_batches_tracked", "/buffers/norm.running_mean",
                                       "/buffers/norm.running_var", "/parameters/frozen"};
  for (const char* name : {"conv.bias", "conv.weight", "encoder.bias", "encoder.weight", "norm.bias", "norm.weight", "scale"}) {
    for (const char* folder : {"/parameters/", "/optimizer/exp_avg/", "/optimizer/exp_avg_sq/"}) {
      expected.push_back(std::string(folder) + name);
    }
  }
  EXPECT_THAT(paths, testing::UnorderedElementsAreArray(expected));
  const Array& weight = checkpoint.arrays.at("/parameters/conv.weight");
  EXPECT_THAT(weight.shape, testing::ElementsAre(4, 3, 2, 2));
  const at::Tensor in_c_order = learning.net->conv->weight.contiguous();
  EXPECT_EQ(std::memcmp(weight.data.data(), in_c_order.data_ptr(), weight.data.size()), 0);
  EXPECT_EQ(config_text(checkpoint), "seed: 5\n");
}

TEST_F(TrainStateFile, ProgressAndNormalisationComeBackExactly) {
  Learning wrote("sgd", 1 << 20, 1);
  Progress& there = wrote.state->progress;
  there.seed = std::numeric_limits<std::uint64_t>::max();
  there.step = 1;
  there.epoch = 2;
  there.position = 3;
  there.world_size = 4;
  there.has_best = there.has_watched = true;
  there.best_value = std::numeric_limits<double>::quiet_NaN();
  there.best_metric = "validation.\"loss\"";
  there.watched_value = -std::numeric_limits<double>::infinity();
  there.evaluations_without_improvement = 5;
  there.validated_step = 16;
  there.seconds = 4.7459380568556355e2;   // Boost.JSON's own parser is a bit off on these three
  there.epoch_loss_sum = 4.5812455122160236e2;
  there.epoch_weight = 1.1317408141314563e2;
  there.epoch_correct = 0x1p-1074;
  there.epoch_counted = std::numeric_limits<double>::max();
  wrote.state->normalisation = {{0.1F, -3e-20F, 1.F / 3}, {1, 2.7182817F, 3e20F}};
  const Checkpoint checkpoint = through_a_file(wrote.snapshot());

  Learning read("sgd", 1 << 20, 2);
  restore(checkpoint, *read.state);
  const Progress& here = read.state->progress;
  EXPECT_EQ(here.seed, there.seed);
  EXPECT_EQ(here.step, 1);
  EXPECT_EQ(here.epoch, 2);
  EXPECT_EQ(here.position, 3);
  EXPECT_EQ(here.world_size, 4);
  EXPECT_TRUE(here.has_best && here.has_watched);
  EXPECT_TRUE(std::isnan(here.best_value));
  EXPECT_EQ(here.best_metric, there.best_metric);
  EXPECT_EQ(here.watched_value, there.watched_value);
  EXPECT_EQ(here.evaluations_without_improvement, 5);
  EXPECT_EQ(here.validated_step, 16);
  EXPECT_EQ(here.seconds, there.seconds);
  EXPECT_EQ(here.epoch_loss_sum, there.epoch_loss_sum);
  EXPECT_EQ(here.epoch_weight, there.epoch_weight);
  EXPECT_EQ(here.epoch_correct, there.epoch_correct);
  EXPECT_EQ(here.epoch_counted, there.epoch_counted);
  EXPECT_EQ(read.state->normalisation.mean, wrote.state->normalisation.mean);
  EXPECT_EQ(read.state->normalisation.stddev, wrote.state->normalisation.stddev);
}

TEST_F(TrainStateFile, WhatDoesNotFitIsNamedAndChangesNothing) {
  Learning wrote("adam", 1 << 20, 1);
  wrote.step(1);
  wrote.state->normalisation = {{0.5F}, {2}};
  wrote.state->progress.step = 7;
  const Checkpoint good = through_a_file(wrote.snapshot());
  const auto text = [](const char* name, const char* json) { return [=](Checkpoint& c) { c.texts[name] = json; }; };
  const std::vector<std::tuple<std::string, std::string, std::function<void(Checkpoint&)>>> cases = {
      {"/parameters/scale", "has no", [](Checkpoint& c) { c.arrays.erase("/parameters/scale"); }},
      {"/optimizer/exp_avg_sq/conv.bias", "has no", [](Checkpoint& c) { c.arrays.erase("/optimizer/exp_avg_sq/conv.bias"); }},
      {"/buffers/count", "has no", [](Checkpoint& c) { c.arrays.erase("/buffers/count"); }},
      {"/parameters/head.weight", "does not have", [](Checkpoint& c) { c.arrays["/parameters/head.weight"] = {}; }},
      {"/optimizer/momentum/scale", "does not have", [](Checkpoint& c) { c.arrays["/optimizer/momentum/scale"] = {}; }},
      {"/parameters/scale", "[4] in the checkpoint and float64 [2, 2]",
       [](Checkpoint& c) { c.arrays.at("/parameters/scale").shape = {4}; }},
      {"/buffers/count", "int64 [2] in the checkpoint and int32",
       [](Checkpoint& c) { c.arrays.at("/buffers/count").dtype = DType::int64; }},
      {"/meta/progress", "cannot be read", text("progress", R"({"seed": 1})")},
      {"/meta/progress", "cannot be read", text("progress", "[")},
      {"/meta/normalisation", "has no", [](Checkpoint& c) { c.texts.erase("normalisation"); }},
      {"mean", "data has changed", text("normalisation", R"({"mean": [0.6], "stddev": [2]})")},
      {"standard deviation", "data has changed", text("normalisation", R"({"mean": [0.5], "stddev": [2, 2]})")},
  };
  for (const auto& [what, why, damage] : cases) {
    Checkpoint bad = good;
    damage(bad);
    Learning live("adam", 1 << 20, 2), untouched("adam", 1 << 20, 2);
    live.state->normalisation = wrote.state->normalisation;
    try {
      restore(bad, *live.state);
      ADD_FAILURE() << what << ' ' << why;
    } catch (const CheckpointError& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr(what), HasSubstr(why)));
    }
    expect_same_bits(live, untouched);
    EXPECT_EQ(live.state->progress.step, 0);
  }
}

/// Each array is in one slice, all of them together are the whole, and no slice has much more than its part.
TEST_F(TrainStateFile, SlicesAreTheWholeCutInParts) {
  Learning learning("adam", 128, 1);
  learning.step(1);
  const Checkpoint whole = through_a_file(learning.snapshot());
  std::size_t all_bytes = 0, largest = 0;
  for (const auto& [path, array] : whole.arrays) {
    all_bytes += array.data.size();
    largest = std::max(largest, array.data.size());
  }
  for (const std::int64_t count : {2, 3, 5}) {
    SCOPED_TRACE(count);
    const auto file = folder_ / ("of-" + std::to_string(count) + ".h5");
    std::vector<Manifest::File> slices;
    std::vector<Snapshot> snapshots(static_cast<std::size_t>(count));
    std::size_t arrays = 0;
    for (std::int64_t number = 1; number <= count; ++number) {
      Snapshot& snapshot = snapshots[static_cast<std::size_t>(number - 1)];
      snapshot.take(*learning.state, "seed: 5\n", {number, count});
      const CheckpointContent content = snapshot.content();
      arrays += content.arrays.size();
      const auto path = slice_path(file, number, count);
      slices.push_back({path.filename().string(), write_checkpoint(path, content)});
      EXPECT_LE(std::filesystem::file_size(path), all_bytes / static_cast<std::size_t>(count) + 2 * largest + 40'000) << number;   // and HDF5's own
    }
    EXPECT_EQ(arrays, whole.arrays.size());
    write_checkpoint(file, snapshots[0].cover(slices));
    const Checkpoint read = read_checkpoint(file);
    ASSERT_EQ(read.arrays.size(), whole.arrays.size());
    for (const auto& [path, array] : whole.arrays) EXPECT_TRUE(read.arrays.at(path).data == array.data) << path;
    EXPECT_EQ(read.texts.at("progress"), whole.texts.at("progress"));
    EXPECT_EQ(config_text(read), "seed: 5\n");
    Learning resumed("adam", 1 << 20, 2);
    restore(read, *resumed.state);
    expect_same_bits(learning, resumed);
  }
}

TEST_F(TrainStateFile, EvaluationNeedsParametersAndBuffersAlone) {
  Learning wrote("adam", 1 << 20, 1), read("adam", 128, 2);
  wrote.step(1);
  Checkpoint checkpoint = through_a_file(wrote.snapshot());
  std::erase_if(checkpoint.arrays, [](const auto& array) { return array.first.starts_with("/optimizer/"); });
  restore_model(checkpoint, *read.parameters, *read.buffers);
  EXPECT_TRUE(torch::equal(read.net->conv->weight, wrote.net->conv->weight));
  EXPECT_TRUE(torch::equal(read.net->tied->weight, wrote.net->tied->weight));
  EXPECT_TRUE(torch::equal(read.net->norm->running_mean, wrote.net->norm->running_mean));
}

}  // namespace
}  // namespace tugline
