// SPDX-License-Identifier: Apache-2.0
// Parameters, gradients and batches in memory that the host cannot read: the same training as on the host.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <limits>
#include <set>

#include <c10/core/impl/VirtualGuardImpl.h>

#include "tugline/core/data/loader.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"
#include "tugline/tests/support/opaque_device.hpp"
#include "tugline/tests/support/task_wrapper.hpp"
#include "tugline/tests/trainers/trainer_lab.hpp"
#include "tugline/trainers/batch_copy.hpp"
#include "tugline/trainers/verify/verify.hpp"

namespace tugline {
namespace {

class DeviceTest : public TrainerLab {
 protected:
  DeviceTest() {
    config_.parallel.shared_memory = "off";   // sums of the backend on both sides
    config_.parallel.backend = "mpi";         // from the device through pinned memory
  }
  Outcome train_on(const std::string& device, Plan plan) {
    config_.train.device = device;
    return train(plan);
  }
  Outcome train_on(const std::string& device) { return train_on(device, {.folder = device}); }
};

TEST_F(DeviceTest, TheHostCannotReadItsMemory) {
  const at::Tensor tensor = at::ones({4}, at::TensorOptions(at::Device(kOpaqueDevice)));
  const int file = ::open("/dev/null", O_WRONLY);
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  EXPECT_EQ(::write(pipe[1], tensor.data_ptr(), 1), -1);
  EXPECT_EQ(errno, EFAULT);
  for (const int each : {file, pipe[0], pipe[1]}) ::close(each);
  EXPECT_EQ(tensor.sum().item<float>(), 4);
}

struct DeviceCase {
  std::string name;
  void (*configure)(RunConfig&);
};
void PrintTo(const DeviceCase& run, std::ostream* out) { *out << run.name; }

const DeviceCase kCases[] = {
    {"sgd", [](RunConfig&) {}},
    {"adamw_dropout",
     [](RunConfig& c) {
       c.optim.name = "adamw";
       c.optim.weight_decay = 0.1;
       c.model.dropout = 0.3;
     }},
    {"adagrad_micro_batches",
     [](RunConfig& c) {
       c.optim.name = "adagrad";
       c.train.micro_batch = 2;
       c.task.class_weights = {1, 2, 0.5, 3, 0.1, 1, 1, 4, 1, 1};
     }},
    {"float64_shares",
     [](RunConfig& c) {
       c.train.precision = "float64";
       c.parallel.balance.mode = "main_light";
     }},
};
const DeviceCase kLocalCases[] = {
    {"rounds",
     [](RunConfig& c) {
       c.parallel.strategy = "local";
       c.parallel.local.steps = 7;   // of 15
     }},
    {"diloco_after_synchronous_steps",
     [](RunConfig& c) {
       c.optim.name = "adamw";
       c.parallel.strategy = "local";
       c.parallel.local.steps = 5;
       c.parallel.local.sync_steps = 2;
       c.parallel.local.outer_lr = 0.7;
       c.parallel.local.outer_momentum = 0.5;
       c.parallel.local.state = "reset";
     }},
};

class EveryDeviceCase : public DeviceTest, public testing::WithParamInterface<DeviceCase> {};
INSTANTIATE_TEST_SUITE_P(Sync, EveryDeviceCase, testing::ValuesIn(kCases), [](const auto& info) { return info.param.name; });
INSTANTIATE_TEST_SUITE_P(Local, EveryDeviceCase, testing::ValuesIn(kLocalCases), [](const auto& info) { return info.param.name; });

TEST_P(EveryDeviceCase, EndsWithTheBitsOfTheHostAlsoAfterMovingInBetween) {
  GetParam().configure(config_);
  const Outcome host = train_on("cpu");
  const Outcome device = train_on(kOpaqueDevice);
  EXPECT_TRUE(device.bits == host.bits) << "rank " << world_.rank();
  EXPECT_EQ(device.result.test.loss, host.result.test.loss);
  EXPECT_EQ(device.result.train.loss, host.result.train.loss);
  for (const auto& [first, second] : {std::pair("cpu", kOpaqueDevice), std::pair(kOpaqueDevice, "cpu")}) {
    const std::string folder = std::string("from-") + first;
    EXPECT_EQ(train_on(first, {.folder = folder, .signal_at = 7}).result.steps, 7);
    const Outcome moved = train_on(second, {.folder = folder, .resume = true});
    EXPECT_TRUE(moved.resumed);
    EXPECT_TRUE(moved.bits == host.bits) << folder;
  }
}

TEST_F(DeviceTest, GradientsGoThroughPinnedMemoryAndMpi) {
  config_.train.device = kOpaqueDevice;
  Learner learner(config_, models_, data_.train->spec(), world_);
  EXPECT_EQ(learner.gradients().backend(), world_.size() == 1 ? "mpi" : "staged over mpi");
}

TEST_F(DeviceTest, BatchesTravelByAStreamOfTheirOwn) {
  auto order = std::make_shared<SampleOrder>(kSamples, 0, false);
  Loader loader(data_.train, order, nullptr, 0, LoaderOptions{.threads = 0, .pinned = true});
  const Batch batch = loader.take(0, 0, kBatch);
  EXPECT_TRUE(batch.input.is_pinned());
  EXPECT_TRUE(batch.target.is_pinned());
  const at::Device device(kOpaqueDevice);
  const Batch there = BatchCopy(device)(batch);
  EXPECT_EQ(there.input.device().type(), device.type());
  EXPECT_TRUE(there.input.cpu().equal(batch.input));
  EXPECT_TRUE(there.target.cpu().equal(batch.target));
  EXPECT_EQ(c10::impl::VirtualGuardImpl(device.type()).getStream(device).id(), 0) << "the thread goes on on the stream it had";
  EXPECT_TRUE(BatchCopy(at::kCPU)(batch).input.is_same(batch.input));
}

/// And for each micro-batch beyond two, so that no more than two are on the device.
TEST_F(DeviceTest, TheHostWaitsTwiceAStep) {
  config_.train.eval_every = 0;
  config_.checkpoint.every_epochs = 0;
  config_.train.device = kOpaqueDevice;
  config_.parallel.check_every = 0;
  config_.optim.clip_norm = 0.5;
  config_.task.class_weights = {1, 2, 0.5, 3, 0.1, 1, 1, 4, 1, 1};
  const auto waits = [&](std::int64_t micro_batch, double epochs) {
    config_.train.micro_batch = micro_batch;
    config_.train.epochs = epochs;
    const std::int64_t before = opaque_host_waits();
    const Outcome outcome = train({.folder = fmt::format("{}-{}", micro_batch, epochs)});
    return std::pair(opaque_host_waits() - before, outcome.result.steps);
  };
  const auto waits_per_epoch = [&](std::int64_t micro_batch) {
    const auto [few, few_steps] = waits(micro_batch, 2);
    const auto [more, more_steps] = waits(micro_batch, 3);
    EXPECT_EQ(more_steps - few_steps, kStepsPerEpoch);
    return more - few;
  };
  const bool idle = equal_share({.global_end = 3}, world_.rank(), world_.size()).size() == 0;   // in the last step there is nothing to compute
  EXPECT_EQ(waits_per_epoch(0), 2 * kStepsPerEpoch - (idle ? 1 : 0));
  config_.parallel.strategy = "local";
  config_.parallel.local.steps = kStepsPerEpoch;
  EXPECT_EQ(waits_per_epoch(0), 2 * kStepsPerEpoch - (idle ? 1 : 0) + 2);   // for the mean of moves, and that of momentum
  config_.parallel.strategy = "sync";
  if (!alone()) return;   // its pieces are the batches
  EXPECT_EQ(waits_per_epoch(1), 2 * kStepsPerEpoch + 4 * (kBatch - 2) + 1) << "four steps of five, one of three";
}

TEST_F(DeviceTest, ClipsAsTheHostDoes) {
  config_.optim.clip_norm = 0.5;
  for (const std::string strategy : {"sync", "local"}) {
    config_.parallel.strategy = strategy;
    const Outcome host = train_on("cpu", {.folder = strategy + "-cpu"}), device = train_on(kOpaqueDevice, {.folder = strategy + "-device"});
    ASSERT_EQ(device.steps.size(), host.steps.size());
    for (std::size_t i = 0; i < host.steps.size(); ++i) {
      EXPECT_NEAR(device.steps[i].loss, host.steps[i].loss, 1e-5) << strategy;
      EXPECT_NEAR(*device.steps[i].gradient_norm, *host.steps[i].gradient_norm, 1e-4 * *host.steps[i].gradient_norm) << strategy;
    }
  }
}

TEST_F(DeviceTest, WhatIsNotFiniteThereIsSeen) {
  config_.train.device = kOpaqueDevice;
  config_.parallel.local.steps = 3;
  Fault fault = parse_fault("nan:rank=0,step=4");
  fault.rank = world_.size() - 1;
  for (const std::string strategy : {"sync", "local"}) {
    config_.parallel.strategy = strategy;
    try {
      train({.folder = strategy, .faults = {fault}});
      FAIL() << "it went on";
    } catch (const AgreedError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("step 4: the gradient is not finite")) << strategy;
    }
    EXPECT_EQ(saved_steps(strategy).back(), 3) << strategy;
    world_.control().barrier();
    std::filesystem::remove(folder_ / "faults.log");
    world_.control().barrier();
  }
}

TEST_F(DeviceTest, AReplicaThatIsNotFiniteIsSeen) {
  config_.parallel.strategy = "local";
  config_.parallel.local.steps = 1;
  config_.optim.lr = 1e39;   // the gradient is finite, and what it leads to is not
  for (const std::string device : {"cpu", kOpaqueDevice}) {
    try {
      train_on(device);
      FAIL() << "it went on";
    } catch (const AgreedError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("some replica are no longer finite")) << device;
    }
  }
}

TEST_F(DeviceTest, ASpikeThereIsFoundAndItsRankNamed) {
  config_.train.device = kOpaqueDevice;
  config_.train.epochs = 6;   // 30 steps
  config_.train.spike_factor = 20;
  config_.train.nonfinite = "retry";
  config_.parallel.local.steps = 4;
  Fault fault = parse_fault("flip_gradient:rank=0,step=26,bit=30");
  fault.rank = world_.size() - 1;
  for (const std::string strategy : {"sync", "local"}) {
    SCOPED_TRACE(strategy);
    config_.parallel.strategy = strategy;
    const Outcome clean = train({.folder = strategy + "-clean"});
    EXPECT_THAT(clean.warnings(), testing::IsEmpty());
    const Outcome flipped = train({.folder = strategy + "-flipped", .faults = {fault}});
    EXPECT_TRUE(flipped.bits == clean.bits);
    EXPECT_THAT(flipped.warnings(), testing::ElementsAre(testing::AllOf(testing::HasSubstr("step 26: the gradient norm is "),
                                                                        testing::HasSubstr("rank " + std::to_string(world_.size() - 1) + " has"))));
    world_.control().barrier();
    std::filesystem::remove(folder_ / "faults.log");
    world_.control().barrier();
  }
}

TEST_F(DeviceTest, RanksAgreeOnTheGradientOfOne) {
  config_.train.device = kOpaqueDevice;
  for (const char* model : {"mlp", "linear"}) {
    config_.model.name = model;
    const VerifyReport report = verify(world_, {.config = config_, .models = models_, .train = data_.train});
    EXPECT_TRUE(report.passed) << to_text(report);
  }
}

/// Each pass in training changes its buffer.
struct DriftingModel final : Model {
  explicit DriftingModel(const SampleSpec& spec) {
    std::int64_t inputs = 1;
    for (const std::int64_t side : spec.input_shape) inputs *= side;
    linear = register_module("linear", torch::nn::Linear(inputs, spec.num_classes));
    drift = register_buffer("drift", torch::zeros({2}));
  }
  at::Tensor forward(const at::Tensor& input) override {
    const at::Tensor output = linear(input.flatten(1));
    if (is_training()) drift.mul_(0.9).add_(output.detach().mean().add(1));
    return output;
  }
  torch::nn::Linear linear{nullptr};
  at::Tensor drift;
};

/// The host goes ahead of the device for so many steps.
class AheadTest : public DeviceTest {
 protected:
  static constexpr std::int64_t kAhead = 4;
  AheadTest() { config_.train.device = kOpaqueDevice; }
  /// A model with buffers, and nothing due before the end.
  void drift() {
    models_.add("drifting", "", [](const ModelConfig&, const SampleSpec& spec) { return std::make_shared<DriftingModel>(spec); });
    config_.model.name = "drifting";
    config_.train.eval_every = 3;
    config_.checkpoint.every_epochs = 0;
  }
  Outcome train_ahead(std::int64_t read_every, Plan plan) {
    config_.train.read_every = read_every;
    plan.folder = fmt::format("{}-{}", plan.folder, read_every);
    return train(plan);
  }
  /// Reading `kAhead` steps at a time tells and moves what reading each does. Where more than two ranks add up a norm, only their order differs.
  void expect_the_same(const Plan& plan) {
    const Outcome each = train_ahead(1, plan), ahead = train_ahead(kAhead, plan);
    const double rounding = config_.optim.clip_norm == 0 || world_.size() <= 2 ? 0 : 1e-6;
    EXPECT_TRUE(rounding > 0 || ahead.bits == each.bits) << "rank " << world_.rank();
    EXPECT_EQ(ahead.warnings(), each.warnings());
    EXPECT_NEAR(ahead.result.train.loss, each.result.train.loss, rounding);
    EXPECT_NEAR(ahead.result.test.loss, each.result.test.loss, rounding);
    EXPECT_EQ(saved_steps(fmt::format("{}-{}", plan.folder, kAhead)), saved_steps(plan.folder + "-1"));
    ASSERT_EQ(ahead.steps.size(), each.steps.size());
    for (std::size_t i = 0; i < each.steps.size(); ++i) {
      const StepRecord &one = ahead.steps[i], &other = each.steps[i];
      SCOPED_TRACE(other.step);
      EXPECT_EQ(one.step, other.step);
      EXPECT_TRUE(std::abs(one.loss - other.loss) <= rounding || !std::isfinite(other.loss)) << one.loss << " and not " << other.loss;
      EXPECT_EQ(one.accuracy, other.accuracy);
      EXPECT_EQ(one.lr, other.lr);
      ASSERT_EQ(one.gradient_norm.has_value(), other.gradient_norm.has_value());
      EXPECT_NEAR(one.gradient_norm.value_or(0), other.gradient_norm.value_or(0), rounding);
    }
  }
};

TEST_F(AheadTest, MovesWhatReadingEachStepDoes) {
  for (const DeviceCase& run : kCases) {
    SCOPED_TRACE(run.name);
    const RunConfig before = config_;
    run.configure(config_);
    expect_the_same({.folder = run.name});
    config_.optim.clip_norm = 0.5;
    expect_the_same({.folder = run.name + "-clipped"});
    config_ = before;
  }
}

/// Says how often the host had waited when each pass began.
class WatchfulTask final : public TaskWrapper {
 public:
  WatchfulTask(std::set<std::int64_t>& waits, const SampleSpec& spec) : TaskWrapper(make_task({}, spec)), waits_(waits) {}
  at::Tensor loss(const at::Tensor& output, const at::Tensor& target) const override {
    waits_.insert(opaque_host_waits());
    return TaskWrapper::loss(output, target);
  }

 private:
  std::set<std::int64_t>& waits_;
};

TEST_F(AheadTest, TheHostWaitsAtReadingsAlone) {
  config_.train.eval_every = 0;
  config_.checkpoint.every_epochs = 0;
  config_.parallel.check_every = 0;
  config_.optim.clip_norm = 0.5;
  std::set<std::int64_t> waits;
  task_ = [&] { return std::make_unique<WatchfulTask>(waits, data_.train->spec()); };
  const Outcome outcome = train_ahead(kStepsPerEpoch, {});
  EXPECT_EQ(outcome.result.steps, 3 * kStepsPerEpoch);
  EXPECT_EQ(waits.size(), 3U) << "three readings";
}

TEST_F(AheadTest, WhoIsAskedToStopReadsAtOnceAndGoesOnToTheSameBits) {
  drift();
  const Outcome whole = train_ahead(kAhead, {.folder = "whole"});
  EXPECT_EQ(train_ahead(kAhead, {.folder = "cut", .signal_at = 6}).result.steps, 9) << "step 5 was read with 8, when the signal came";
  EXPECT_TRUE(train_ahead(kAhead, {.folder = "cut", .resume = true}).bits == whole.bits);
}

TEST_F(AheadTest, NothingMovesAfterAStepThatIsNotFiniteUntilItIsRead) {
  drift();
  const Outcome whole = train_ahead(10, {.folder = "whole"});
  Fault fault = parse_fault("nan:rank=0,step=4");
  fault.rank = world_.size() - 1;
  try {
    train_ahead(10, {.folder = "nan", .faults = {fault}});
    FAIL() << "it went on";
  } catch (const AgreedError& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("step 4: the gradient is not finite"), testing::HasSubstr("the same command repeats the step")));
  }
  EXPECT_EQ(saved_steps("nan-10").back(), 3);
  const Outcome resumed = train_ahead(10, {.folder = "nan", .resume = true});
  EXPECT_TRUE(resumed.bits == whole.bits) << "the checkpoint is of the step before, though ten were told";
  EXPECT_EQ(resumed.result.train.loss, whole.result.train.loss);
}

TEST_F(AheadTest, AStepThatIsNotFiniteIsSkippedThere) {
  config_.train.nonfinite = "skip";
  Fault fault = parse_fault("nan:rank=0,step=4-5,times=0");
  fault.rank = world_.size() - 1;
  for (const double clip_norm : {0.0, 0.5}) {
    config_.optim.clip_norm = clip_norm;
    expect_the_same({.folder = fmt::format("nan-{}", clip_norm), .faults = {fault}});
  }
}

TEST_F(AheadTest, BuffersAreBackWhereAStepWasLeftOut) {
  drift();
  config_.train.nonfinite = "skip";
  Fault fault = parse_fault("nan:rank=0,step=4-5,times=0");
  fault.rank = world_.size() - 1;
  expect_the_same({.folder = "drift", .faults = {fault}});
}

/// A rank that is slow on purpose gets less, from a reading on.
TEST_F(AheadTest, AdaptiveSharesChangeAtReadings) {
  if (alone()) return;
  config_.data.batch = kSamples;
  config_.train.epochs = 6 * kAhead;
  config_.train.eval_every = 0;
  config_.checkpoint.every_epochs = 0;
  config_.parallel.check_every = 0;
  const Outcome equal = train_ahead(1, {.folder = "equal"});
  config_.parallel.balance.mode = "adaptive";
  Plan plan{.folder = "adaptive"};
  for (std::int64_t step = 1; step <= 6 * kAhead; ++step) {
    plan.faults.push_back({.kind = Fault::Kind::slow, .rank = world_.size() - 1, .step = step, .times = 0, .seconds = 0.05, .text = {}});
  }
  const Outcome outcome = train_ahead(kAhead, plan);
  ASSERT_EQ(outcome.steps.size(), static_cast<std::size_t>(6 * kAhead));
  for (std::size_t i = 0; i < outcome.steps.size(); ++i) {
    const auto& read_with = outcome.steps[i - i % kAhead].ranks;
    std::int64_t samples = 0;
    for (std::size_t rank = 0; rank < read_with.size(); ++rank) {
      EXPECT_EQ(outcome.steps[i].ranks[rank].samples, read_with[rank].samples) << "step " << i + 1;
      samples += read_with[rank].samples;
    }
    EXPECT_EQ(samples, kSamples);
  }
  EXPECT_LT(outcome.steps.back().ranks.back().samples, kSamples / world_.size());
  EXPECT_NEAR(outcome.result.test.loss, equal.result.test.loss, 1e-4);
}

/// Its loss is infinite in some calls, and its gradients are not.
class FarTask final : public TaskWrapper {
 public:
  FarTask(std::int64_t& calls, const SampleSpec& spec) : TaskWrapper(make_task({}, spec)), calls_(calls) {}
  at::Tensor loss(const at::Tensor& output, const at::Tensor& target) const override {
    const at::Tensor sum = TaskWrapper::loss(output, target);
    return calls_++ == 6 ? sum + std::numeric_limits<double>::infinity() : sum;
  }

 private:
  std::int64_t& calls_;
};

TEST_F(AheadTest, ALossThatIsNotFiniteOnOneRankMovesNobody) {
  config_.train.nonfinite = "skip";
  config_.optim.clip_norm = 0.5;
  std::int64_t calls = 0;
  task_ = [&] {
    calls = world_.rank() == 0 ? 0 : 1000;
    return std::make_unique<FarTask>(calls, data_.train->spec());
  };
  expect_the_same({.folder = "far"});
}

}  // namespace
}  // namespace tugline
