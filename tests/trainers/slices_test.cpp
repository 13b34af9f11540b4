// SPDX-License-Identifier: Apache-2.0
// Checkpoints that several ranks write: one per host, and all where each has residuals of its own.
#include "tugline/core/state/train_state.hpp"
#include "tugline/tests/trainers/same_checkpoint.hpp"
#include "tugline/tests/trainers/trainer_lab.hpp"
#include "tugline/trainers/checkpoint_saver.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

class Slices : public TrainerLab {
 protected:
  Slices() {
    config_.checkpoint.slice_mib = 1e-6;   // every host that may
    config_.checkpoint.keep_last = 100;
    config_.train.epochs = 4;
    config_.train.steps = 13;
    config_.train.eval_every = 100;
    config_.parallel.balance.mode = "off";
  }
  void round_on_the_wire(const char* strategy, const char* memory) {
    config_.parallel.wire = "bfloat16";
    config_.parallel.shared_memory = memory;
    config_.parallel.strategy = strategy;
    config_.parallel.local.steps = 3;
  }
  /// Files beside the one that is named like a checkpoint. Any rank.
  std::int64_t slices_of(const std::string& folder, std::int64_t step) const {
    const std::string head = checkpoints(folder).path_of(step).stem().string() + ".";
    std::int64_t count = 0;
    for (const auto& entry : fs::directory_iterator(folder_ / folder)) {
      const std::string name = entry.path().filename().string();
      count += name.starts_with(head) && name.find("-of-") != name.npos;
    }
    return count;
  }
  /// Gradients go by message, and so are rounded.
  bool rounds() const { return world_.size() > 1 && (config_.parallel.shared_memory == "off" || world_.num_hosts() > 1); }
};

class Strategies : public Slices, public testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(, Strategies, testing::Values("sync", "local", "async"), [](const auto& info) { return std::string(info.param); });

TEST_P(Strategies, OneSlicePerHostAndAnyRanksGoOnFromThem) {
  config_.parallel.strategy = GetParam();
  config_.parallel.async.staleness = 0;   // the same again
  config_.optim.name = "adamw";
  config_.model.name = "convnet";
  config_.model.norm = "batch";
  const Outcome whole = train({.folder = "sliced"});
  config_.checkpoint.slice_mib = 0;
  train({.folder = "alone"});
  const std::int64_t hosts = world_.num_hosts();
  EXPECT_EQ(slices_of("sliced", 13), hosts == 1 ? 0 : hosts);
  EXPECT_EQ(slices_of("alone", 13), 0);
  const Checkpoint alone = read_checkpoint(checkpoints("alone").path_of(13)), sliced = read_checkpoint(checkpoints("sliced").path_of(13));
  ASSERT_EQ(alone.arrays.size(), sliced.arrays.size());
  for (const auto& [path, array] : alone.arrays) EXPECT_TRUE(sliced.arrays.at(path).data == array.data) << path;
  world_.control().barrier();
  for (int ranks = 1; ranks <= world_.size(); ++ranks) {
    config_.train.steps = 13 + ranks;
    config_.checkpoint.slice_mib = 1e-6;
    const auto few = first_ranks(ranks);
    if (few) {
      const Outcome more = train(*few, {.folder = "sliced", .resume = true});
      EXPECT_TRUE(more.resumed);
      EXPECT_GE(more.steps.size(), 1u);
      EXPECT_EQ(slices_of("sliced", 13 + ranks), few->num_hosts() == 1 ? 0 : few->num_hosts());
    }
    world_.control().barrier();
  }
}

using Way = std::pair<const char*, const char*>;   // strategy, shared memory
class Residuals : public Slices, public testing::WithParamInterface<Way> {};
INSTANTIATE_TEST_SUITE_P(, Residuals, testing::Values(Way{"sync", "auto"}, Way{"sync", "gradients"}, Way{"sync", "off"}, Way{"local", "auto"}, Way{"local", "off"}),
                         [](const auto& info) { return std::string(info.param.first) + "_" + info.param.second; });

TEST_P(Residuals, AreStateToTheBit) {
  round_on_the_wire(GetParam().first, GetParam().second);
  const Outcome whole = train({.folder = "whole"});
  const Outcome first = train({.folder = "parts", .signal_at = 7});
  const std::int64_t stopped = first.result.steps;
  const Outcome second = train({.folder = "parts", .resume = true});
  EXPECT_TRUE(second.resumed);
  EXPECT_TRUE(second.bits == whole.bits) << "rank " << world_.rank() << ", stopped after " << stopped;
  EXPECT_THAT(second.warnings(), testing::IsEmpty());
  EXPECT_EQ(slices_of("parts", stopped), rounds() ? world_.size() : 0);
  if (world_.rank() == 0) expect_same_checkpoint(checkpoints("whole").path_of(13), checkpoints("parts").path_of(13));
  if (!rounds()) return;

  // They are not nothing: without them the run ends elsewhere.
  if (world_.rank() == 0) {
    Checkpoint read = read_checkpoint(checkpoints("parts").path_of(stopped), [](const std::string& path) { return !path.starts_with("/residuals/"); });
    CheckpointContent content{{}, read.texts, {}};
    content.texts["manifest"] = encode(Manifest{.world_size = world_.size()});
    for (const auto& [path, array] : read.arrays) content.arrays.push_back({path, array.dtype, array.shape, array.data.data()});
    write_checkpoint(checkpoints("without").path_of(stopped), content);
  }
  world_.control().barrier();
  const Outcome without = train({.folder = "without", .resume = true});
  EXPECT_TRUE(without.resumed);
  EXPECT_FALSE(without.bits == whole.bits);
  if (world_.rank() != 0) return;
  EXPECT_THAT(without.warnings(), testing::ElementsAre(HasSubstr("has not what rounding left over")));
}

TEST_F(Slices, ResidualsOfOtherRanksAreLeftAndTold) {
  round_on_the_wire("sync", "off");
  if (world_.size() < 3) GTEST_SKIP() << "needs three ranks";
  train({.folder = "parts", .signal_at = 7});
  if (const auto fewer = first_ranks(world_.size() - 1)) {
    const Outcome rest = train(*fewer, {.folder = "parts", .resume = true});
    EXPECT_EQ(rest.result.steps, 13);
    if (world_.rank() == 0) {
      EXPECT_THAT(rest.warnings(), testing::ElementsAre(HasSubstr("has not what rounding left over")));
    }
  }
}

/// The io fault strikes the last rank, which is not the one that speaks.
TEST_F(Slices, OneThatCannotBeWrittenIsToldByRankZeroAndCostsOneCheckpoint) {
  round_on_the_wire("sync", "off");
  config_.checkpoint.every_steps = 2;
  config_.checkpoint.every_epochs = 0;
  config_.checkpoint.on_error = "continue";
  const int last = world_.size() - 1;
  const Plan plan{.faults = {{.kind = Fault::Kind::io, .rank = last, .step = 4}}};
  const Outcome outcome = train(plan);
  EXPECT_EQ(outcome.result.steps, 13);
  const auto steps = saved_steps("run");
  EXPECT_THAT(steps, AllOf(Contains(2), testing::Not(Contains(4)), Contains(6), Contains(13)));
  EXPECT_EQ(slices_of("run", 4), 0) << "lone slices stay";
  if (world_.rank() == 0) {
    EXPECT_THAT(outcome.warnings(), testing::ElementsAre(AllOf(HasSubstr("step-00000004"), HasSubstr("goes on without"))));
    EXPECT_THAT(outcome.warnings().front(), HasSubstr(last == 0 ? "" : fmt::format("rank {}: ", last)));
  }
  config_.checkpoint.on_error = "stop";
  std::string said;
  fs::remove(folder_ / "faults.log");
  world_.control().barrier();
  try {
    train({.folder = "stops", .faults = plan.faults});
  } catch (const AgreedError& error) {
    said = error.what();
  }
  EXPECT_THAT(said, HasSubstr("step-00000004"));
  EXPECT_TRUE(same_on_all_ranks(said));
}

TEST_F(Slices, ADamagedOneSendsEveryoneBackToTheCheckpointBefore) {
  round_on_the_wire("sync", "off");
  config_.checkpoint.every_steps = 5;
  const Outcome whole = train({});
  if (world_.rank() == 0) {
    const fs::path file = checkpoints("run").path_of(13);
    const fs::path slice = world_.size() == 1 ? file : slice_path(file, world_.size(), world_.size());
    fs::resize_file(slice, fs::file_size(slice) - 1);
  }
  world_.control().barrier();
  const Outcome again = train({.resume = true});
  EXPECT_EQ(again.steps_of("resume"), std::vector<std::int64_t>{10});
  EXPECT_TRUE(again.bits == whole.bits);
}

/// A folder per rank is what hosts without a shared file system have.
TEST_F(Slices, RankZeroWritesEverythingWhereOthersDoNotSeeIt) {
  Learner learner(config_, models_, data_.train->spec(), world_);
  TrainState state{learner.parameters(), learner.buffers(), learner.optimizer().slots()};
  std::vector<float> left(3);
  state.residuals.push_back({0, 0, left});
  const auto own = choose_writers(world_, config_.checkpoint, state, folder_ / std::to_string(world_.rank()));
  EXPECT_THAT(own.ranks, testing::ElementsAre(0));
  const auto shared = choose_writers(world_, config_.checkpoint, state, folder_ / "shared");
  EXPECT_EQ(static_cast<int>(shared.ranks.size()), world_.size());
  config_.checkpoint.slice_mib = 0;
  EXPECT_THAT(choose_writers(world_, config_.checkpoint, state, folder_ / "shared").ranks, testing::ElementsAre(0));
  world_.control().barrier();
  if (world_.size() > 1) {
    EXPECT_TRUE(fs::is_empty(folder_ / "shared")) << "the probe stays";
  }
}

}  // namespace
}  // namespace tugline
