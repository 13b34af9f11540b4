// SPDX-License-Identifier: Apache-2.0
// Parameters, gradients and batches in memory that the host cannot read: the same training as on the host.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include <c10/core/impl/VirtualGuardImpl.h>

#include "tugline/core/data/loader.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"
#include "tugline/tests/support/opaque_device.hpp"
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

class EveryDeviceCase : public DeviceTest, public testing::WithParamInterface<DeviceCase> {};
INSTANTIATE_TEST_SUITE_P(, EveryDeviceCase, testing::ValuesIn(kCases), [](const auto& info) { return info.param.name; });

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
  if (!alone()) return;   // its pieces are the batches
  EXPECT_EQ(waits_per_epoch(1), 2 * kStepsPerEpoch + 4 * (kBatch - 2) + 1) << "four steps of five, one of three";
}

TEST_F(DeviceTest, ClipsAsTheHostDoes) {
  config_.optim.clip_norm = 0.5;
  const Outcome host = train_on("cpu"), device = train_on(kOpaqueDevice);
  ASSERT_EQ(device.steps.size(), host.steps.size());
  for (std::size_t i = 0; i < host.steps.size(); ++i) {
    EXPECT_NEAR(device.steps[i].loss, host.steps[i].loss, 1e-5);
    EXPECT_NEAR(*device.steps[i].gradient_norm, *host.steps[i].gradient_norm, 1e-4 * *host.steps[i].gradient_norm);
  }
}

TEST_F(DeviceTest, WhatIsNotFiniteThereIsSeen) {
  config_.train.device = kOpaqueDevice;
  Fault fault = parse_fault("nan:rank=0,step=4");
  fault.rank = world_.size() - 1;
  try {
    train({.folder = "nan", .faults = {fault}});
    FAIL() << "it went on";
  } catch (const AgreedError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("step 4: the gradient is not finite"));
  }
  EXPECT_EQ(saved_steps("nan").back(), 3);
}

TEST_F(DeviceTest, ASpikeThereIsFoundAndItsRankNamed) {
  config_.train.device = kOpaqueDevice;
  config_.train.epochs = 6;   // 30 steps
  config_.train.spike_factor = 20;
  config_.train.nonfinite = "retry";
  const Outcome clean = train({.folder = "clean"});
  EXPECT_THAT(clean.warnings(), testing::IsEmpty());
  Fault fault = parse_fault("flip_gradient:rank=0,step=26,bit=30");
  fault.rank = world_.size() - 1;
  const Outcome flipped = train({.folder = "flipped", .faults = {fault}});
  EXPECT_TRUE(flipped.bits == clean.bits);
  EXPECT_THAT(flipped.warnings(), testing::ElementsAre(testing::AllOf(testing::HasSubstr("step 26: the gradient norm is "),
                                                                      testing::HasSubstr("rank " + std::to_string(world_.size() - 1) + " has"))));
}

TEST_F(DeviceTest, RanksAgreeOnTheGradientOfOne) {
  config_.train.device = kOpaqueDevice;
  for (const char* model : {"mlp", "linear"}) {
    config_.model.name = model;
    const VerifyReport report = verify(world_, {.config = config_, .models = models_, .train = data_.train});
    EXPECT_TRUE(report.passed) << to_text(report);
  }
}

}  // namespace
}  // namespace tugline
