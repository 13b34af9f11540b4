// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <torch/torch.h>

#include "tugline/core/models/registry.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/support/mpi_world.hpp"
#include "tugline/trainers/fault_injector.hpp"
#include "tugline/trainers/learner.hpp"
#include "tugline/trainers/run_shares.hpp"
#include "tugline/trainers/run_updates.hpp"
#include "tugline/trainers/stop_signal.hpp"
#include "tugline/trainers/trainer.hpp"

namespace tugline {

/// 23 samples in batches of 5: five steps an epoch, the last of three samples. No rank count divides any of it.
constexpr std::int64_t kSamples = 23, kBatch = 5, kStepsPerEpoch = 5;

/// Remembers which samples were read, in order.
class RecordedDataset final : public Dataset {
 public:
  explicit RecordedDataset(std::shared_ptr<const Dataset> base) : base_(std::move(base)) {}
  const SampleSpec& spec() const override { return base_->spec(); }
  std::int64_t size() const override { return base_->size(); }
  std::uint64_t fingerprint() const override { return base_->fingerprint(); }
  bool cheap() const override { return true; }
  void read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      reads_.push_back(index);
    }
    base_->read(index, input, target);
  }
  const std::vector<std::int64_t>& reads() const { return reads_; }
  /// How often each sample was read by all ranks together. Collective.
  std::vector<std::int64_t> counts(Communicator& control) const {
    std::vector<std::int64_t> counts(static_cast<std::size_t>(size()), 0);
    for (const auto index : reads_) ++counts[static_cast<std::size_t>(index)];
    control.all_reduce(counts.data(), size(), DType::int64);
    return counts;
  }

 private:
  std::shared_ptr<const Dataset> base_;
  mutable std::mutex mutex_;
  mutable std::vector<std::int64_t> reads_;
};

inline std::shared_ptr<const Dataset> first_of(const std::shared_ptr<const Dataset>& base, std::int64_t count) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(count));
  std::iota(indices.begin(), indices.end(), 0);
  return subset(base, std::move(indices));
}

/// Hands everything to a collector and calls back after each step.
struct Outcome {
  TrainResult result;
  bool resumed = false;
  std::vector<StepRecord> steps;
  std::vector<EvalRecord> evaluations;
  std::vector<std::pair<std::string, boost::json::object>> events;
  std::string bits;   ///< parameters, buffers and optimizer slots of this rank

  std::vector<std::int64_t> steps_of(const std::string& event) const {
    std::vector<std::int64_t> steps;
    for (const auto& [name, fields] : events) {
      if (name == event) steps.push_back(fields.at("step").as_int64());
    }
    return steps;
  }
  std::vector<std::string> warnings() const {
    std::vector<std::string> texts;
    for (const auto& [name, fields] : events) {
      if (name == "warning") texts.emplace_back(fields.at("text").as_string());
    }
    return texts;
  }
};

class CollectingSink final : public Sink {
 public:
  CollectingSink(Outcome& outcome, std::function<void(std::int64_t)> after) : outcome_(outcome), after_(std::move(after)) {}
  void step(const StepRecord& record) override {
    outcome_.steps.push_back(record);
    after_(record.step);
  }
  void evaluation(const EvalRecord& record) override { outcome_.evaluations.push_back(record); }
  void event(std::string_view name, const boost::json::object& fields) override { outcome_.events.emplace_back(name, fields); }

 private:
  Outcome& outcome_;
  std::function<void(std::int64_t)> after_;
};

class ManualClock final : public Clock {
 public:
  double seconds() const override { return now_; }
  void advance(double seconds) { now_ += seconds; }

 private:
  double now_ = 100;
};

inline std::string bits_of(Learner& learner) {
  std::string bits;
  const auto add = [&](const at::Tensor& flat) {
    const at::Tensor host = flat.cpu();
    bits.append(static_cast<const char*>(host.data_ptr()), host.nbytes());
  };
  for (const auto& flat : learner.parameters().flats()) add(flat.values);
  for (const auto& flat : learner.buffers().flats()) add(flat.values);
  for (const auto& slot : learner.optimizer().slots()) {
    for (const auto& flat : slot.buffers) add(flat);
  }
  return bits;
}

/// What a resumed run starts from must come from the checkpoint alone.
inline void spoil(Learner& learner) {
  torch::NoGradGuard no_grad;
  for (const Arena* arena : {&learner.parameters(), &learner.buffers()}) {
    for (const auto& slot : arena->slots()) at::Tensor(slot.parameter).fill_(7);
  }
  for (const auto& buffer : learner.optimizer().slots()) {
    for (const auto& slot : learner.parameters().slots()) learner.parameters().view(buffer.buffers, slot).fill_(7);
  }
}

/// All ranks of the job, and a folder that they share.
class TrainerLab : public MpiWorldTest {
 protected:
  using Ending = TrainResult::Ending;

  TrainerLab() {
    config_.name = "lab";
    config_.seed = 3;
    config_.data.batch = kBatch;
    config_.data.threads = 0;   // reads what a step needs and nothing ahead
    config_.model.hidden = {9};
    config_.model.channels = {4, 8};
    config_.optim.lr = 0.05;
    config_.train.epochs = 3;
    config_.train.eval_batch = 4;
    config_.parallel.bucket_mib = 2e-4;   // many buckets
    const DataSplits digits = open_data(config_.data, 0);
    data_ = {first_of(digits.train, kSamples), first_of(digits.validation, 11), first_of(digits.test, 7), digits.normalisation};
  }
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "tugline-test-XXXXXX").string();
    if (world_.rank() == 0) {
      ASSERT_NE(::mkdtemp(name.data()), nullptr);
    }
    folder_ = world_.control().broadcast(name, 0);
  }
  void TearDown() override {
    world_.control().barrier();
    if (world_.rank() == 0) std::filesystem::remove_all(folder_);
  }

  /// The first `ranks` ranks as a world of their own; null on the others. Collective.
  std::unique_ptr<World> first_ranks(int ranks) {
    auto communicator = world_.communicator().split(world_.rank() < ranks ? 0 : -1, 0);
    return communicator ? std::make_unique<World>(std::move(communicator)) : nullptr;
  }

  struct Plan {
    std::string folder = "run";
    bool resume = false;
    std::int64_t signal_at = 0;   ///< the step that a signal ends, 2 or later; 0: none
    int signal_rank = 0;
    std::function<void(std::int64_t step, Learner&)> after_step;
    std::vector<Fault> faults;
    std::function<void(const std::string& line)> record_update;
  };

  /// One attempt at training `config_` on `data_`, as the train command makes it.
  Outcome train(World& world, const Plan& plan) {
    Outcome outcome;
    Learner learner(config_, models_, data_.train->spec(), world, task_ ? task_() : nullptr, ParameterCopies::per_host);
    if (plan.resume) spoil(learner);
    RunLog log;
    log.add(std::make_unique<CollectingSink>(outcome, [&](std::int64_t step) {
      if (step + 1 == plan.signal_at && world.rank() == plan.signal_rank) std::raise(SIGUSR1);
      if (plan.after_step) plan.after_step(step, learner);
    }));
    const StopSignal stop;
    FaultInjector faults(plan.faults, world.rank(), folder_);
    Trainer trainer({world, config_, learner, data_, log, checkpoints(plan.folder), stop, clock_ ? *clock_ : Clock::steady(), &faults,
                     read_run_shares(config_, world), read_run_updates(config_, world), plan.record_update});
    if (plan.resume) outcome.resumed = trainer.resume();
    outcome.result = trainer.run();
    outcome.bits = bits_of(learner);
    return outcome;
  }
  Outcome train(const Plan& plan) { return train(world_, plan); }

  CheckpointFolder checkpoints(const std::string& folder) const { return CheckpointFolder(folder_ / folder); }
  std::vector<std::int64_t> saved_steps(const std::string& folder) const {
    std::vector<std::int64_t> steps;
    for (const auto& entry : checkpoints(folder).list()) steps.push_back(entry.step);
    return steps;
  }

  RunConfig config_;
  ModelRegistry models_;
  DataSplits data_;
  std::function<std::unique_ptr<Task>()> task_;
  const Clock* clock_ = nullptr;
  std::filesystem::path folder_;
};

}  // namespace tugline
