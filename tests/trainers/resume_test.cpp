// SPDX-License-Identifier: Apache-2.0
// Stop and resume equals never stopping; another number of ranks goes on with the same samples.
#include "tugline/core/state/train_state.hpp"
#include "tugline/tests/trainers/same_checkpoint.hpp"
#include "tugline/tests/trainers/trainer_lab.hpp"

namespace tugline {
namespace {

struct RunCase {
  std::string name;
  void (*configure)(RunConfig&);
};
void PrintTo(const RunCase& run, std::ostream* out) { *out << run.name; }

const RunCase kRuns[] = {
    {"sgd_momentum", [](RunConfig& c) { c.optim.clip_norm = 1; }},
    {"adamw_cosine",
     [](RunConfig& c) {
       c.optim.name = "adamw";
       c.optim.weight_decay = 0.1;
       c.optim.schedule.name = "cosine";
       c.optim.schedule.unit = "step";
       c.optim.schedule.warmup = 3;
     }},
    {"dropout", [](RunConfig& c) { c.model.dropout = 0.5; }},
    {"augmentation",
     [](RunConfig& c) {
       c.model.name = "convnet";
       c.data.augment = {1, true, 0.1};
     }},
    {"local_batch_norm",
     [](RunConfig& c) {
       c.model.name = "convnet";
       c.model.norm = "batch";
     }},
    {"sync_batch_norm",
     [](RunConfig& c) {
       c.model.name = "convnet";
       c.model.norm = "batch";
       c.model.batch_norm = "sync";
       c.data.drop_last = true;
     }},
    {"bf16",
     [](RunConfig& c) {
       c.model.name = "convnet";
       c.model.norm = "batch";
       c.model.batch_norm = "sync";
       c.data.drop_last = true;
       c.train.precision = "bf16";
     }},
    {"fp16",
     [](RunConfig& c) {
       c.train.precision = "fp16";
       c.train.micro_batch = 2;
       c.optim.name = "adamw";
     }},
    {"everything",
     [](RunConfig& c) {
       c.model.name = "convnet";
       c.model.norm = "batch";
       c.model.dropout = 0.2;
       c.data.augment = {1, true, 0.1};
       c.data.threads = 1;
       c.train.micro_batch = 2;
       c.train.precision = "float64";
       c.task.class_weights = {1, 2, 0.5, 3, 0.1, 1, 1, 4, 1, 1};
       c.optim.name = "adam";
       c.optim.schedule.name = "linear";
       c.train.early_stop.metric = "validation.loss";
     }},
};

class EveryRun : public TrainerLab, public testing::WithParamInterface<RunCase> {};
INSTANTIATE_TEST_SUITE_P(, EveryRun, testing::ValuesIn(kRuns), [](const auto& info) { return info.param.name; });

TEST_P(EveryRun, StoppedInAnEpochAndResumedEqualsOneThatNeverStopped) {
  GetParam().configure(config_);
  config_.train.steps = 13;
  config_.train.epochs = 4;
  config_.train.eval_unit = "step";
  config_.train.eval_every = 3;
  const Outcome whole = train({.folder = "whole"});
  EXPECT_EQ(whole.result.ending, Ending::done);
  EXPECT_EQ(whole.result.steps, 13);

  const Outcome first = train({.folder = "parts", .signal_at = 7, .signal_rank = world_.size() - 1});
  EXPECT_EQ(first.result.ending, Ending::signal);
  EXPECT_EQ(first.result.steps, 7);
  const Outcome second = train({.folder = "parts", .resume = true});
  EXPECT_TRUE(second.resumed);
  EXPECT_EQ(second.result.ending, Ending::done);
  EXPECT_EQ(second.steps.front().step, 8);
  EXPECT_EQ(first.steps.size() + second.steps.size(), 13u);

  EXPECT_TRUE(second.bits == whole.bits) << "rank " << world_.rank();
  EXPECT_TRUE(same_on_all_ranks(whole.bits));
  EXPECT_EQ(second.result.train.loss, whole.result.train.loss);
  EXPECT_EQ(second.result.train.accuracy, whole.result.train.accuracy);
  EXPECT_EQ(second.result.validation.loss, whole.result.validation.loss);
  EXPECT_EQ(second.result.test.loss, whole.result.test.loss);
  EXPECT_EQ(second.result.epochs, whole.result.epochs);
  for (std::size_t i = 0; i < second.steps.size(); ++i) {
    EXPECT_EQ(second.steps[i].loss, whole.steps[i + 7].loss);
    EXPECT_EQ(second.steps[i].lr, whole.steps[i + 7].lr);
  }
  if (world_.rank() == 0) expect_same_checkpoint(checkpoints("whole").path_of(13), checkpoints("parts").path_of(13));
}

/// Optimizer x where parameters lie x schedule x augmentation, each stopped in the middle of an epoch.
class EveryCombination
    : public TrainerLab,
      public testing::WithParamInterface<std::tuple<const char*, const char*, const char*, bool>> {};
INSTANTIATE_TEST_SUITE_P(, EveryCombination,
                         testing::Combine(testing::Values("sgd", "adam", "adamw", "adagrad"), testing::Values("auto", "gradients", "off"),
                                          testing::Values("constant", "step", "cosine", "linear", "wsd"), testing::Bool()),
                         [](const auto& info) {
                           return fmt::format("{}_{}_{}{}", std::get<0>(info.param), std::get<1>(info.param), std::get<2>(info.param),
                                              std::get<3>(info.param) ? "_augmented" : "");
                         });

TEST_P(EveryCombination, StoppedAndResumedHasTheSameBits) {
  const auto& [optimizer, memory, schedule, augmented] = GetParam();
  config_.optim.name = optimizer;
  config_.parallel.shared_memory = memory;
  config_.optim.schedule.name = schedule;
  config_.optim.schedule.unit = "step";
  config_.optim.schedule.warmup = std::string(schedule) == "constant" ? 0 : 3;
  config_.optim.schedule.every = 4;
  config_.optim.schedule.gamma = 0.5;
  config_.optim.schedule.decay = 4;
  if (augmented) config_.data.augment = {1, true, 0.1};
  config_.model.dropout = 0.1;
  config_.train.steps = 9;
  config_.train.epochs = 4;
  config_.train.eval_every = 100;
  const Outcome whole = train({.folder = "whole"});
  const std::int64_t at = 2 + static_cast<std::int64_t>(std::hash<std::string>()(testing::UnitTest::GetInstance()->current_test_info()->name()) % 6);
  EXPECT_EQ(train({.folder = "parts", .signal_at = at}).result.steps, at);
  EXPECT_TRUE(train({.folder = "parts", .resume = true}).bits == whole.bits) << "stopped after step " << at;
}

class OtherRanks : public TrainerLab, public testing::WithParamInterface<std::pair<int, int>> {};
INSTANTIATE_TEST_SUITE_P(, OtherRanks, testing::Values(std::pair{1, 2}, std::pair{1, 3}, std::pair{1, 4}, std::pair{2, 1}, std::pair{2, 3}, std::pair{2, 4},
                                                             std::pair{3, 1}, std::pair{3, 2}, std::pair{3, 4}, std::pair{4, 1}, std::pair{4, 2},
                                                             std::pair{4, 3}),
                         [](const auto& info) { return fmt::format("{}_then_{}", info.param.first, info.param.second); });

TEST_P(OtherRanks, GoOnWithEverySampleOncePerEpochAndTheSameParameters) {
  const auto [before, after] = GetParam();
  if (world_.size() < std::max(before, after)) GTEST_SKIP() << "needs more ranks";
  config_.train.epochs = 2;
  const auto base = data_.train;
  const auto old_world = first_ranks(before), new_world = first_ranks(after);

  std::string whole_bits;
  std::vector<std::int64_t> early(kSamples, 0), late(kSamples, 0);
  if (old_world) {
    whole_bits = train(*old_world, {.folder = "whole"}).bits;
    const auto recorded = std::make_shared<RecordedDataset>(base);
    data_.train = recorded;
    EXPECT_EQ(train(*old_world, {.folder = "parts", .signal_at = 7}).result.steps, 7);
    early = recorded->counts(old_world->control());
  }
  world_.control().barrier();
  if (new_world) {
    const auto recorded = std::make_shared<RecordedDataset>(base);
    data_.train = recorded;
    const Outcome rest = train(*new_world, {.folder = "parts", .resume = true});
    EXPECT_EQ(rest.result.steps, 2 * kStepsPerEpoch);
    late = recorded->counts(new_world->control());
  }
  world_.control().barrier();
  if (world_.rank() != 0) return;

  // Epoch 0 and two batches of epoch 1, then the rest of epoch 1.
  EXPECT_EQ(std::accumulate(early.begin(), early.end(), std::int64_t{0}), kSamples + 2 * kBatch);
  for (std::size_t i = 0; i < early.size(); ++i) {
    EXPECT_GE(early[i], 1) << "sample " << i << " in epoch 0";
    EXPECT_EQ(early[i] + late[i], 2) << "sample " << i;
  }
  const Checkpoint whole = read_checkpoint(checkpoints("whole").path_of(10));
  const Checkpoint parts = read_checkpoint(checkpoints("parts").path_of(10));
  const auto tensor = [](const Array& array) {
    return torch::from_blob(const_cast<std::byte*>(array.data.data()), array.shape, torch::kFloat);
  };
  for (const auto& [path, array] : whole.arrays) {
    EXPECT_LE((tensor(array) - tensor(parts.arrays.at(path))).abs().max().item<float>(), 1e-5) << path;
  }
  auto there = progress_of(whole), here = progress_of(parts);
  EXPECT_EQ(here.at("world_size").as_int64(), after);
  EXPECT_EQ(here.at("step"), there.at("step"));
  EXPECT_EQ(here.at("position"), there.at("position"));
}

TEST_F(TrainerLab, ResumesFromTheNewestCheckpointThatVerifies) {
  config_.checkpoint.every_steps = 2;
  config_.checkpoint.keep_last = 3;
  config_.train.steps = 8;
  const Outcome whole = train({});
  if (world_.rank() == 0) {
    EXPECT_EQ(saved_steps("run").back(), 8);
    std::fstream file(checkpoints("run").path_of(8), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-100, std::ios::end);
    const char flipped = static_cast<char>(file.peek() ^ 1);
    file.seekp(-100, std::ios::end);
    file.put(flipped);
  }
  world_.control().barrier();
  const Outcome again = train({.resume = true});
  EXPECT_EQ(again.steps_of("resume"), std::vector<std::int64_t>{6});
  if (world_.rank() == 0) {
    EXPECT_THAT(again.warnings(), testing::ElementsAre(testing::HasSubstr("step-00000008.h5")));
  }
  EXPECT_TRUE(again.bits == whole.bits);
}

TEST_F(TrainerLab, ResumesNothingWhereNothingIs) {
  config_.train.steps = 2;
  EXPECT_FALSE(train({.resume = true}).resumed);
}

TEST_F(TrainerLab, AFinishedRunResumedSaysTheSameAgain) {
  config_.train.steps = 7;
  const Outcome whole = train({}), again = train({.resume = true});
  EXPECT_TRUE(again.steps.empty());
  EXPECT_TRUE(again.bits == whole.bits);
  EXPECT_EQ(again.result.ending, Ending::done);
  EXPECT_EQ(again.result.steps, 7);
  EXPECT_EQ(again.result.epochs, 1);
  if (world_.rank() == 0) {
    EXPECT_EQ(again.result.seconds, whole.result.seconds);
  }
  EXPECT_EQ(again.result.train.loss, whole.result.train.loss);
  EXPECT_EQ(again.result.validation.loss, whole.result.validation.loss);
  EXPECT_EQ(again.result.test.loss, whole.result.test.loss);
}

TEST_F(TrainerLab, ACheckpointOfAnotherModelIsRefusedByNameOnEveryRank) {
  config_.train.steps = 2;
  train({});
  config_.model.hidden = {11};
  std::string text;
  try {
    train({.resume = true});
  } catch (const AgreedError& error) {
    text = error.what();
    EXPECT_EQ(error.exit_code(), ExitCode::io);
  }
  EXPECT_THAT(text, testing::HasSubstr("/parameters/"));
  EXPECT_TRUE(same_on_all_ranks(text));
}

}  // namespace
}  // namespace tugline
