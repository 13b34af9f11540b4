// SPDX-License-Identifier: Apache-2.0
// Forward and backward that a device was told once, and repeats: the training that is told anew each time.
#include <map>

#include <c10/core/impl/VirtualGuardImpl.h>

#include "tugline/tests/support/opaque_device.hpp"
#include "tugline/tests/support/task_wrapper.hpp"
#include "tugline/tests/trainers/trainer_lab.hpp"
#include "tugline/trainers/pass_graphs.hpp"

namespace tugline {
namespace {

/// How often forward was told for so many samples.
class CountingTask final : public TaskWrapper {
 public:
  CountingTask(std::map<std::int64_t, int>& told, std::unique_ptr<Task> task) : TaskWrapper(std::move(task)), told_(told) {}
  at::Tensor loss(const at::Tensor& output, const at::Tensor& target) const override {
    ++told_[target.size(0)];
    return TaskWrapper::loss(output, target);
  }

 private:
  std::map<std::int64_t, int>& told_;
};

class GraphsTest : public TrainerLab {
 protected:
  GraphsTest() {
    config_.parallel.shared_memory = "off";
    config_.parallel.backend = "mpi";
    task_ = [this] { return std::make_unique<CountingTask>(told_, make_task(config_.task, data_.train->spec())); };
  }
  /// The host's training, and the device's with graphs.
  void expect_the_same(const std::string& name) {
    SCOPED_TRACE(name);
    config_.train.device = "cpu";
    told_.clear();
    const Outcome host = train({.folder = name + "-host"});
    const auto told_each = told_;
    config_.train.device = kOpaqueDevice;
    config_.train.cuda_graphs = true;
    told_.clear();
    const Outcome graphs = train({.folder = name + "-graphs"});
    EXPECT_TRUE(graphs.bits == host.bits) << "rank " << world_.rank();
    EXPECT_EQ(graphs.result.train.loss, host.result.train.loss);
    EXPECT_EQ(graphs.result.train.accuracy, host.result.train.accuracy);
    EXPECT_EQ(graphs.result.test.loss, host.result.test.loss);
    EXPECT_EQ(train({.folder = name + "-cut", .signal_at = 8}).result.ending, Ending::signal);
    EXPECT_TRUE(train({.folder = name + "-cut", .resume = true}).bits == host.bits);
    told_.clear();
    train({.folder = name + "-again"});
    for (const auto& [samples, times] : told_each) EXPECT_EQ(told_[samples], std::min(times, 3)) << samples << " samples: twice, and to record it";
    config_.train.cuda_graphs = false;
  }
  std::map<std::int64_t, int> told_;
};

std::int64_t inputs_of(const SampleSpec& spec) {
  return std::accumulate(spec.input_shape.begin(), spec.input_shape.end(), std::int64_t{1}, std::multiplies<>());
}

/// Drops, counts in a buffer, and has a parameter that nothing depends on.
struct BusyModel final : Model {
  explicit BusyModel(const SampleSpec& spec) {
    linear = register_module("linear", torch::nn::Linear(inputs_of(spec), spec.num_classes));
    unused = register_parameter("unused", torch::ones({3}));
    passes = register_buffer("passes", torch::zeros({2}));
  }
  at::Tensor forward(const at::Tensor& input) override {
    const at::Tensor output = linear(torch::dropout(input.flatten(1), 0.3, is_training()));
    if (is_training()) passes.mul_(0.9).add_(output.detach().mean().add(1));
    return output;
  }
  torch::nn::Linear linear{nullptr};
  at::Tensor unused, passes;
};

TEST_F(GraphsTest, EndWithTheBitsOfTheHost) {
  const RunConfig plain = config_;
  expect_the_same("sgd");
  config_.optim.name = "adamw";
  config_.model.dropout = 0.3;
  config_.optim.clip_norm = world_.size() > 1 ? 0 : 0.5;   // norms are added up in another order there
  expect_the_same("dropout");
  config_ = plain;
  config_.train.micro_batch = 2;
  config_.task.class_weights = {1, 2, 0.5, 3, 0.1, 1, 1, 4, 1, 1};
  expect_the_same("micro-batches");
  config_ = plain;
  config_.train.precision = "float64";
  config_.parallel.balance.mode = "main_light";
  expect_the_same("shares");
  config_ = plain;
  config_.train.read_every = 4;
  expect_the_same("ahead");
  config_ = plain;
  config_.parallel.strategy = "local";
  config_.parallel.local.steps = 4;
  expect_the_same("rounds");
}

TEST_F(GraphsTest, RepeatWhatAModelDoesBesides) {
  models_.add("busy", "", [](const ModelConfig&, const SampleSpec& spec) { return std::make_shared<BusyModel>(spec); });
  config_.model.name = "busy";
  expect_the_same("busy");
}

TEST_F(GraphsTest, AModelThatCannotBeRecordedIsRefused) {
  struct LookingModel final : Model {
    explicit LookingModel(const SampleSpec& spec) { linear = register_module("linear", torch::nn::Linear(inputs_of(spec), spec.num_classes)); }
    at::Tensor forward(const at::Tensor& input) override {
      const at::Tensor output = linear(input.flatten(1));
      return output.sum().item<float>() > 1e30 ? output * 0 : output;
    }
    torch::nn::Linear linear{nullptr};
  };
  models_.add("looking", "", [](const ModelConfig&, const SampleSpec& spec) { return std::make_shared<LookingModel>(spec); });
  config_.model.name = "looking";
  config_.data.batch = world_.size();   // nobody is idle
  config_.train.device = kOpaqueDevice;
  EXPECT_EQ(train({.folder = "without"}).result.epochs, 3);
  config_.train.cuda_graphs = true;
  try {
    train({.folder = "with"});
    FAIL() << "it was recorded";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(), "train.cuda_graphs: forward and backward of this model cannot be recorded (the host waits for a number while work is "
                               "recorded); set it to false");
  }
}

TEST_F(GraphsTest, AHookThatWouldActTwiceIsRefused) {
  struct HookedModel final : Model {
    explicit HookedModel(const SampleSpec& spec) {
      linear = register_module("linear", torch::nn::Linear(inputs_of(spec), spec.num_classes));
      linear->weight.register_hook([](const at::Tensor& gradient) { return gradient * 0.1; });
    }
    at::Tensor forward(const at::Tensor& input) override { return linear(input.flatten(1)); }
    torch::nn::Linear linear{nullptr};
  };
  models_.add("hooked", "", [](const ModelConfig&, const SampleSpec& spec) { return std::make_shared<HookedModel>(spec); });
  config_.model.name = "hooked";
  config_.data.batch = world_.size();
  config_.train.device = kOpaqueDevice;
  config_.train.cuda_graphs = true;
  try {
    train({});
    FAIL() << "it was recorded";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(), "train.cuda_graphs: parameter 'linear.weight' has a hook on its gradient, which would act twice; set it to false");
  }
}

TEST_F(GraphsTest, KeepTheShapesThatWereUsedLast) {
  const at::Device device(at::Device(kOpaqueDevice).type(), 0);
  const c10::impl::VirtualGuardImpl devices(device.type());
  at::Tensor weight = at::ones({1}, at::TensorOptions(device)).requires_grad_();
  const Arena arena({{"weight", weight}}, ArenaOptions{.device = device});
  int told = 0;
  {
    PassGraphs graphs(device, [&](const Batch& batch) {
      ++told;
      return PassSums{(batch.input * weight).sum(), {}};
    });
    const c10::StreamId own = devices.getStream(device).id();
    EXPECT_NE(own, 0);
    {
      const PassGraphs second(device, nullptr);
      EXPECT_EQ(devices.getStream(device).id(), own) << "learners of one thread are in order";
    }
    EXPECT_EQ(devices.getStream(device).id(), own);
    const auto batch_of = [&](std::int64_t samples) {
      return Batch{at::ones({samples, 1}, at::TensorOptions(device)), at::zeros({samples}, at::TensorOptions(device).dtype(at::kLong))};
    };
    const auto run = [&](std::int64_t samples) { return graphs.run(batch_of(samples), 2, arena).has_value(); };
    for (int times = 0; times < 3; ++times) {
      for (std::int64_t samples = 1; samples <= 8; ++samples) {
        EXPECT_EQ(graphs.waits_for_device(batch_of(samples)), times == 2);
        EXPECT_EQ(run(samples), times == 2);
        EXPECT_EQ(graphs.waits_for_device(batch_of(samples)), times == 1) << "once";
      }
    }
    EXPECT_TRUE(graphs.waits_for_device(batch_of(9))) << "for the end of another's graph";
    EXPECT_EQ(told, 8);
    EXPECT_FLOAT_EQ(weight.grad().cpu().item<float>(), 36 / 2.0);
    EXPECT_FALSE(run(9));   // takes the place of 1
    EXPECT_TRUE(run(2));
    EXPECT_FALSE(run(1));   // of 3
    EXPECT_TRUE(run(2));
    EXPECT_FALSE(run(3));
    EXPECT_EQ(told, 8);
    EXPECT_EQ(graphs.repeated(), 10);
  }
  EXPECT_EQ(devices.getStream(device).id(), 0);
}

}  // namespace
}  // namespace tugline
