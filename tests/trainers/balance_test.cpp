// SPDX-License-Identifier: Apache-2.0
// Runs that cut the batch unevenly: what they record, repeat, and go on from.
#include <fmt/ranges.h>

#include "tugline/core/io/checkpoint.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/tests/trainers/trainer_lab.hpp"

namespace tugline {
namespace {

using testing::HasSubstr;

class BalanceTest : public TrainerLab {
 protected:
  BalanceTest() {
    config_.data.batch = 8;   // 23 samples: 8, 8 and 7
    config_.optim.momentum = 0.9;
  }
  std::vector<std::int64_t> shares_of(const StepRecord& step) const {
    std::vector<std::int64_t> shares;
    for (const RankStep& rank : step.ranks) shares.push_back(rank.samples);
    return shares;
  }
  /// One float per parameter and optimizer slot.
  static at::Tensor values(const Outcome& outcome) {
    return torch::from_blob(const_cast<char*>(outcome.bits.data()), {static_cast<std::int64_t>(outcome.bits.size() / 4)}, torch::kFloat).clone();
  }
  void expect_parameters_of_one_rank(const Outcome& team) {
    World solo{solo_communicator()};
    RunConfig config = config_;
    std::swap(config, config_);
    config_.parallel.balance = {};
    const Outcome alone = train(solo, {.folder = "alone-" + std::to_string(world_.rank())});
    std::swap(config, config_);
    EXPECT_LE((values(team) - values(alone)).abs().max().item<float>(), 1e-4);
    EXPECT_NEAR(team.result.validation.loss, alone.result.validation.loss, 1e-5);
  }
  void expect_refused(const std::string& sentence) {
    try {
      train({.folder = "refused"});
      ADD_FAILURE() << "accepted";
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::config);
      EXPECT_THAT(error.what(), HasSubstr(sentence));
    }
  }
};

TEST_F(BalanceTest, FixedWeightsAndALightMainRank) {
  if (world_.size() == 1) return;
  const auto ranks = static_cast<std::size_t>(world_.size());
  config_.parallel.balance.mode = "fixed";
  config_.parallel.balance.weights.assign(ranks, 1);
  config_.parallel.balance.weights.back() = 0;
  const Outcome fixed = train({.folder = "fixed"});
  for (const StepRecord& step : fixed.steps) {
    EXPECT_EQ(step.ranks.back().samples, 0);
    EXPECT_EQ(step.ranks.front().samples, (step.samples + world_.size() - 2) / (world_.size() - 1)) << step.step;
  }
  expect_parameters_of_one_rank(fixed);

  config_.parallel.balance = {};
  config_.parallel.balance.mode = "main_light";
  config_.parallel.balance.main_fraction = 1.0 / 3;
  const Outcome light = train({.folder = "light"});
  EXPECT_EQ(light.steps.front().ranks.front().samples, world_.size() == 2 ? 2 : 1);
  expect_parameters_of_one_rank(light);
}

TEST_F(BalanceTest, WeightsByHost) {
  config_.parallel.balance.mode = "fixed";
  config_.parallel.balance.host_weights = {{world_.hosts().front(), "2"}};
  const Outcome outcome = train({});
  std::int64_t least = 8, most = 0;
  for (const std::int64_t share : shares_of(outcome.steps.front())) {
    least = std::min(least, share);
    most = std::max(most, share);
  }
  EXPECT_LE(most - least, 1);
  config_.parallel.balance.host_weights = {{"nowhere", "2"}};
  expect_refused(fmt::format("parallel.balance.host_weights: there is none for host {}, where ranks run", world_.hosts().front()));
}

/// Cuts that change each step, as if another run had made them: an earlier attempt, which a later one took back, among them.
TEST_F(BalanceTest, RecordedSharesAreRepeatedToTheBit) {
  const auto ranks = static_cast<std::size_t>(world_.size());
  std::vector<std::vector<std::int64_t>> cuts;
  for (std::int64_t step = 0; step < 9; ++step) {
    std::vector<std::int64_t> cut(ranks, 0);
    for (std::int64_t i = 0; i < 8; ++i) ++cut[static_cast<std::size_t>((step * i * i + i) % world_.size())];
    cuts.push_back(cut);
  }
  if (world_.rank() == 0) {
    std::ofstream out(folder_ / "metrics.jsonl");
    const auto record = [&](std::size_t step, const std::vector<std::int64_t>& cut) {
      out << fmt::format("{{\"time\":1,\"event\":\"balance\",\"from_step\":{},\"shares\":[{}],\"unit\":1,\"reason\":\"test\"}}\n", step + 1,
                         fmt::join(cut, ","));
    };
    for (const std::size_t step : {0, 1, 2, 3, 5, 7}) record(step, cuts[step]);   // an attempt of eight steps, of which four count
    record(4, cuts[4]);                                                           // the next goes on with the fifth
    record(8, cuts[8]);
    out << "{\"time\":2,\"event\":\"balance\",\"from_st";
  }
  for (std::size_t step : {5, 6, 7}) cuts[step] = cuts[4];
  world_.control().barrier();
  config_.parallel.balance.mode = "replay";
  config_.parallel.balance.replay = folder_.string();
  const Outcome first = train({.folder = "a"}), second = train({.folder = "b"});
  for (std::size_t i = 0; i < first.steps.size(); ++i) {
    if (first.steps[i].samples < 8) continue;
    EXPECT_EQ(shares_of(first.steps[i]), cuts[i]) << "step " << i + 1;
  }
  EXPECT_TRUE(first.bits == second.bits);
  // Stopped within it, it goes on with the cut of that step, and says so.
  train({.folder = "c", .signal_at = 3});
  const Outcome rest = train({.folder = "c", .resume = true});
  EXPECT_TRUE(rest.bits == first.bits);
  const auto cut = std::find_if(rest.events.begin(), rest.events.end(), [](const auto& event) { return event.first == "balance"; });
  ASSERT_NE(cut, rest.events.end());
  EXPECT_EQ(cut->second.at("from_step").as_int64(), 4);
  EXPECT_EQ(cut->second.at("shares"), boost::json::value_from(cuts[3]));
  expect_parameters_of_one_rank(first);

  config_.data.batch = 9;
  expect_refused("and here data.batch is 9 for");
  config_.data.batch = 8;
  config_.parallel.balance.replay = (folder_ / "nothing").string();
  EXPECT_THROW(train({.folder = "refused"}), AgreedError);
}

TEST_F(BalanceTest, AnAdaptiveRunGoesOnWithTheSharesOfItsCheckpoint) {
  if (world_.size() == 1) return;
  config_.parallel.balance.mode = "adaptive";
  config_.train.epochs = 6;
  const Outcome first = train({.signal_at = 12});
  ASSERT_EQ(first.result.ending, Ending::signal);
  const auto text = [&] {
    const Checkpoint checkpoint = read_checkpoint(checkpoints("run").newest_valid(nullptr));
    const auto shares = checkpoint.texts.find("shares");
    return shares == checkpoint.texts.end() ? "" : shares->second;
  }();
  EXPECT_THAT(text, HasSubstr("fixed_seconds"));
  const Outcome second = train({.resume = true});
  ASSERT_FALSE(second.events.empty());
  const auto begun = std::find_if(second.events.begin(), second.events.end(), [](const auto& event) { return event.first == "balance"; });
  ASSERT_NE(begun, second.events.end());
  EXPECT_EQ(begun->second.at("from_step").as_int64(), first.result.steps + 1);
  EXPECT_EQ(begun->second.at("reason"), "adaptive, as the checkpoint left it");
  EXPECT_TRUE(second.resumed);
  expect_parameters_of_one_rank(second);

  // Without balancing, or on other hosts, the checkpoint is as good.
  config_.parallel.balance.mode = "off";
  EXPECT_TRUE(train({.resume = true}).resumed);
}

TEST_F(BalanceTest, WhatCannotBeIsRefused) {
  config_.parallel.balance.mode = "fixed";
  config_.parallel.balance.weights.assign(static_cast<std::size_t>(world_.size()) + 1, 1);
  expect_refused(fmt::format("parallel.balance.weights: there are {} of them and {} rank", world_.size() + 1, world_.size()));
  config_.parallel.balance = {};
  config_.parallel.balance.mode = "adaptive";
  if (world_.size() == 1) return;
  config_.parallel.balance.max_share = 1;
  config_.data.batch = 9;
  expect_refused("parallel.balance.max_share: 1 samples for each of");
}

/// A rank that is slow on purpose gets less, whoever it is.
TEST_F(BalanceTest, ASlowRankGetsLess) {
  if (world_.size() == 1) return;
  config_.parallel.balance.mode = "adaptive";
  config_.data.batch = 12;
  config_.train.epochs = 12;   // 24 steps, every other one a whole batch
  Plan plan;
  for (std::int64_t step = 1; step <= 24; ++step) {   // far longer than a busy machine makes a step of the others
    plan.faults.push_back({.kind = Fault::Kind::slow, .rank = world_.size() - 1, .step = step, .times = 0, .seconds = 0.1, .text = {}});
  }
  const Outcome outcome = train(plan);
  const auto shares = shares_of(outcome.steps[outcome.steps.size() - 2]);
  EXPECT_EQ(shares.back(), *std::min_element(shares.begin(), shares.end()));
  EXPECT_LT(shares.back(), 12 / world_.size());
  expect_parameters_of_one_rank(outcome);
}

}  // namespace
}  // namespace tugline
