// SPDX-License-Identifier: Apache-2.0
// Asynchronous ranks that compute in memory which the host cannot read, and exchange in the host's: the same training as on the host.
#include <cmath>

#include "tugline/tests/support/opaque_device.hpp"
#include "tugline/tests/trainers/trainer_lab.hpp"
#include "tugline/trainers/run/run_directory.hpp"

namespace tugline {
namespace {

class AsyncDeviceTest : public TrainerLab {
 protected:
  AsyncDeviceTest() {
    config_.parallel.strategy = "async";
    config_.parallel.backend = "mpi";   // what is averaged when ranks meet goes through pinned memory
    config_.parallel.check_every = 7;
  }
  Outcome train_on(const std::string& device, Plan plan) {
    config_.train.device = device;
    std::filesystem::create_directories(folder_ / plan.folder);
    plan.record_update = [file = RunPaths(folder_ / plan.folder).updates()](const std::string& line) { std::ofstream(file, std::ios::app) << line; };
    Outcome outcome = train(plan);
    world_.control().barrier();
    return outcome;
  }
  Outcome repeat_on(const std::string& device, const std::string& folder) {
    config_.parallel.async.replay = folder_ / folder;
    Outcome outcome = train_on(device, {.folder = folder + "-again"});
    config_.parallel.async.replay.clear();
    return outcome;
  }
};

TEST_F(AsyncDeviceTest, ABoundOfZeroHasTheBitsOfTheHostAlsoAfterMovingInBetween) {
  config_.parallel.async.staleness = 0;
  config_.optim.clip_norm = 0.5;
  config_.train.epochs = 6;
  config_.data.batch = 3 * world_.size();
  for (const auto& [optimizer, local_steps] : {std::pair("sgd", 1), std::pair("adamw", 1), std::pair("sgd", 3)}) {
    config_.optim.name = optimizer;
    config_.parallel.async.local_steps = local_steps;
    config_.train.cuda_graphs = optimizer == std::string("adamw") || local_steps > 1;   // changes nothing, and nothing at all on the host
    const std::string name = fmt::format("{}-{}", optimizer, local_steps);
    const Outcome host = train_on("cpu", {.folder = name + "-cpu"}), device = train_on(kOpaqueDevice, {.folder = name + "-device"});
    EXPECT_TRUE(device.bits == host.bits) << name << ", rank " << world_.rank();
    EXPECT_EQ(device.result.test.loss, host.result.test.loss);
    EXPECT_EQ(device.result.train.loss, host.result.train.loss);
    for (const auto& [first, second] : {std::pair("cpu", kOpaqueDevice), std::pair(kOpaqueDevice, "cpu")}) {
      const std::string folder = name + "-from-" + first;
      const Outcome begun = train_on(first, {.folder = folder, .signal_at = 7});
      EXPECT_LT(begun.result.steps, host.result.steps);
      const Outcome moved = train_on(second, {.folder = folder, .resume = true});
      EXPECT_TRUE(moved.resumed);
      EXPECT_EQ(moved.steps.front().step, begun.result.steps + 1);
      EXPECT_TRUE(moved.bits == host.bits) << folder;
    }
  }
}

TEST_F(AsyncDeviceTest, ARecordIsMadeAgainOnTheOtherKindOfMemory) {
  config_.train.epochs = 6;
  config_.parallel.async.pieces = kBatch;
  for (const auto& [first, second] : {std::pair("cpu", kOpaqueDevice), std::pair(kOpaqueDevice, "cpu")}) {
    const Outcome recorded = train_on(first, {.folder = first});
    EXPECT_TRUE(repeat_on(second, first).bits == recorded.bits) << "recorded on " << first << ", rank " << world_.rank();
  }
}

TEST_F(AsyncDeviceTest, WhatIsNotFiniteThereMovesNothing) {
  config_.parallel.async.staleness = 0;
  config_.parallel.async.local_steps = 3;
  config_.data.batch = 3 * world_.size();
  for (const std::string next : {"skip", "retry"}) {
    config_.train.nonfinite = next;
    std::vector<Outcome> outcomes;
    for (const std::string device : {"cpu", kOpaqueDevice}) {
      outcomes.push_back(train_on(device, {.folder = next + device, .faults = {{.kind = Fault::Kind::nan, .rank = world_.size() - 1, .step = 4, .text = "nan"}}}));
      world_.control().barrier();
      std::filesystem::remove(folder_ / "faults.log");
      world_.control().barrier();
    }
    EXPECT_TRUE(outcomes[1].bits == outcomes[0].bits) << next;
    EXPECT_EQ(outcomes[1].warnings(), outcomes[0].warnings());
    const bool is_told = next == "skip" || world_.rank() == world_.size() - 1;
    EXPECT_EQ(outcomes[1].warnings().empty(), !is_told) << next;
    EXPECT_TRUE(std::isfinite(outcomes[1].result.test.loss));
  }
}

}  // namespace
}  // namespace tugline
