// SPDX-License-Identifier: Apache-2.0
// How an epoch is cut: nothing dropped, nothing padded, the same order on any number of ranks.
#include "tugline/parallel/sync/sync_strategy.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/tests/trainers/trainer_lab.hpp"

namespace tugline {
namespace {

class SharesTest : public TrainerLab {
 protected:
  struct Run {
    Outcome outcome;
    std::vector<std::int64_t> order;   ///< the samples of all ranks in the order of the global batches
  };

  /// Trains on the whole job; puts together what the ranks read.
  Run train_recorded() {
    const auto base = data_.train;
    const auto recorded = std::make_shared<RecordedDataset>(base);
    data_.train = recorded;
    Run run{train({}), {}};
    data_.train = base;

    const auto ranks = static_cast<std::size_t>(world_.size());
    std::vector<std::vector<std::int64_t>> reads;
    const auto& own = recorded->reads();
    const std::string mine(reinterpret_cast<const char*>(own.data()), own.size() * sizeof(std::int64_t));
    for (const std::string& bytes : world_.control().all_gather(mine)) {
      reads.emplace_back(bytes.size() / sizeof(std::int64_t));
      std::memcpy(reads.back().data(), bytes.data(), bytes.size());
    }
    std::vector<std::size_t> next(ranks, 0);
    for (const StepRecord& step : run.outcome.steps) {
      for (std::size_t r = 0; r < ranks; ++r) {
        for (std::int64_t i = 0; i < step.ranks.at(r).samples; ++i) run.order.push_back(reads[r].at(next[r]++));
      }
    }
    for (std::size_t r = 0; r < ranks; ++r) EXPECT_EQ(next[r], reads[r].size()) << "nothing read that no step used, rank " << r;
    return run;
  }

  /// The order as documented: a function of seed and epoch.
  std::vector<std::int64_t> documented_order(std::int64_t epochs, std::int64_t per_epoch) const {
    const SampleOrder order(kSamples, config_.seed, true);
    std::vector<std::int64_t> result;
    for (std::int64_t epoch = 0; epoch < epochs; ++epoch) {
      const auto permutation = order.epoch(epoch);
      result.insert(result.end(), permutation->begin(), permutation->begin() + per_epoch);
    }
    return result;
  }

  /// Parameters after the same run on one rank.
  void expect_those_of_one_rank(const Outcome& team) {
    World solo{solo_communicator()};
    const Outcome alone = train(solo, {.folder = "alone-" + std::to_string(world_.rank())});
    ASSERT_EQ(alone.bits.size(), team.bits.size());
    const auto values = [](const std::string& bits) {
      return torch::from_blob(const_cast<char*>(bits.data()), {static_cast<std::int64_t>(bits.size() / 4)}, torch::kFloat);
    };
    EXPECT_LE((values(team.bits) - values(alone.bits)).abs().max().item<float>(), 1e-5);
    EXPECT_NEAR(team.result.train.loss, alone.result.train.loss, 1e-5);
  }
};

TEST_F(SharesTest, TheRaggedLastBatchIsNeitherDroppedNorPadded) {
  const Run run = train_recorded();
  ASSERT_EQ(run.outcome.steps.size(), 15u);
  EXPECT_EQ(run.order, documented_order(3, kSamples));
  for (const StepRecord& step : run.outcome.steps) {
    const std::int64_t samples = step.step % kStepsPerEpoch == 0 ? 3 : 5;
    EXPECT_EQ(step.samples, samples);
    std::int64_t all = 0;
    for (const RankStep& rank : step.ranks) {
      all += rank.samples;
      EXPECT_LE(std::abs(rank.samples - samples / world_.size()), 1);
    }
    EXPECT_EQ(all, samples);
    const auto& seconds = step.seconds;
    double sum = 0;
    for (const double phase : {seconds.data, seconds.compute, seconds.exposed, seconds.wait, seconds.optimizer}) {
      EXPECT_GE(phase, 0);
      sum += phase;
    }
    EXPECT_LE(sum, static_cast<double>(samples) / step.samples_per_second * 1.0001);
  }
  EXPECT_EQ(run.outcome.result.train.samples, kSamples);
  expect_those_of_one_rank(run.outcome);
}

TEST_F(SharesTest, DropLastDropsIt) {
  config_.data.drop_last = true;
  const Run run = train_recorded();
  EXPECT_EQ(run.outcome.result.steps, 12);
  EXPECT_EQ(run.outcome.result.epochs, 3);
  EXPECT_EQ(run.order, documented_order(3, 20));
}

TEST_F(SharesTest, AnEpochSmallerThanABatchIsOneStep) {
  config_.data.batch = 100;
  for (const bool drop_last : {false, true}) {
    config_.data.drop_last = drop_last;
    const Run run = train_recorded();
    EXPECT_EQ(run.outcome.result.steps, 3);
    EXPECT_EQ(run.order, documented_order(3, kSamples));
    if (world_.rank() == 0) std::filesystem::remove_all(folder_ / "run");
    world_.control().barrier();
  }
}

TEST_F(SharesTest, RanksWithoutSamplesTakePart) {
  config_.data.batch = 2;   // 12 steps an epoch, the last of one sample
  config_.train.epochs = 1;
  const Run run = train_recorded();
  EXPECT_EQ(run.order, documented_order(1, kSamples));
  EXPECT_EQ(run.outcome.steps.back().samples, 1);
  EXPECT_TRUE(same_on_all_ranks(run.outcome.bits));
  expect_those_of_one_rank(run.outcome);
}

TEST_F(SharesTest, SyncBatchNormNeedsASampleOnEveryRankInEveryStep) {
  config_.model.name = "convnet";
  config_.model.norm = "batch";
  config_.model.batch_norm = "sync";
  config_.train.epochs = 1;
  config_.data.batch = 11;   // the last batch has one sample
  if (world_.size() == 1) {
    EXPECT_EQ(train({}).result.steps, 3);
    return;
  }
  try {
    train({});
    ADD_FAILURE() << "one sample for " << world_.size() << " ranks";
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::config);
    EXPECT_THAT(error.what(), testing::HasSubstr("the smallest global batch has 1"));
  }
  config_.data.drop_last = true;
  EXPECT_EQ(train({}).result.steps, 2);
}

/// Not only close: gradients are added up in one order. Batches of eight in four shards of two, then of five, whose shards have 2, 2, 1 and
/// 0 samples.
TEST_F(SharesTest, WithShardsOneTwoAndFourRanksHaveTheSameBits) {
  config_.parallel.shards = 4;
  config_.optim.momentum = 0.9;
  config_.optim.clip_norm = 0.5;
  config_.model.name = "convnet";
  config_.model.dropout = 0.2;
  config_.task.class_weights = {0.1, 0.7, 1.3, 0.9, 1.1, 0.3, 0.6, 1.7, 0.2, 1};
  for (const auto& [memory, batch] : {std::pair("auto", 8), std::pair("off", 8), std::pair("auto", 5)}) {
    config_.parallel.shared_memory = memory;
    config_.data.batch = batch;
    std::string alone;
    for (const int ranks : {1, 2, 4}) {
      if (ranks > world_.size()) break;
      std::string bits;
      if (const auto world = first_ranks(ranks)) bits = train(*world, {.folder = fmt::format("{}-{}-{}", memory, batch, ranks)}).bits;
      if (world_.rank() != 0) continue;
      if (ranks == 1) alone = bits;
      EXPECT_TRUE(bits == alone) << ranks << " ranks, shared memory " << memory << ", batches of " << batch;
    }
  }
  if (world_.size() != 3) return;
  try {
    train({});
    ADD_FAILURE() << "three ranks";
  } catch (const AgreedError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("parallel.shards: 4 shards are for 1, 2, 4, ... ranks up to as many, and there are 3"));
  }
}

TEST_F(SharesTest, StepsAndEpochsWhicheverIsFirst) {
  config_.train.steps = 7;
  EXPECT_EQ(train({.folder = "a"}).result.steps, 7);
  config_.train.epochs = 1;
  const Outcome outcome = train({.folder = "b"});
  EXPECT_EQ(outcome.result.steps, kStepsPerEpoch);
  EXPECT_EQ(outcome.result.epochs, 1);
}

}  // namespace
}  // namespace tugline
