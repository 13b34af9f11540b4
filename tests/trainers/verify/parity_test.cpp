// SPDX-License-Identifier: Apache-2.0
// N ranks equal one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include <torch/torch.h>

#include "tugline/core/random.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/tests/trainers/verify/parity_lab.hpp"
#include "tugline/trainers/learner.hpp"
#include "tugline/trainers/verify/mean_gradient.hpp"

namespace tugline {
namespace {

struct ModelCase {
  std::string name;
  std::shared_ptr<const Dataset> (*data)();
  void (*configure)(RunConfig&);
};

void PrintTo(const ModelCase& model, std::ostream* out) { *out << model.name; }

const ModelCase kModels[] = {
    {"linear", [] { return classified({6}); }, [](RunConfig& c) { c.model.name = "linear"; }},
    {"mlp", [] { return classified({6}); }, [](RunConfig& c) { c.model.name = "mlp"; }},
    {"mlp_class_weights", [] { return classified({6}); },
     [](RunConfig& c) {
       c.model.name = "mlp";
       c.task.class_weights = {1, 2, 0.5, 3, 0.1};
     }},
    {"mlp_smoothed", [] { return classified({6}); },
     [](RunConfig& c) {
       c.model.name = "mlp";
       c.task.label_smoothing = 0.1;
     }},
    {"mlp_regression", [] { return valued(); }, [](RunConfig& c) { c.model.name = "mlp"; }},
    {"linear_regression", [] { return valued(); }, [](RunConfig& c) { c.model.name = "linear"; }},
    {"convnet_group", [] { return classified({1, 8, 8}); }, [](RunConfig& c) { c.model.name = "convnet"; }},
    {"convnet_none", [] { return classified({2, 8, 8}); },
     [](RunConfig& c) {
       c.model.name = "convnet";
       c.model.norm = "none";
     }},
    {"convnet_channels_last", [] { return classified({2, 8, 8}); },
     [](RunConfig& c) {
       c.model.name = "convnet";
       c.train.channels_last = true;
     }},
    {"transformer", []() -> std::shared_ptr<const Dataset> { return std::make_shared<TokenDataset>(); },
     [](RunConfig& c) { c.model.name = "transformer"; }},
    {"transformer_untied", []() -> std::shared_ptr<const Dataset> { return std::make_shared<TokenDataset>(); },
     [](RunConfig& c) {
       c.model.name = "transformer";
       c.model.tied = false;
     }},
};

using Parameters = std::tuple<ModelCase, std::string>;
class EveryModel : public ParityTest, public testing::WithParamInterface<Parameters> {
 protected:
  EveryModel() {
    std::get<0>(GetParam()).configure(config_);
    config_.train.precision = std::get<1>(GetParam());
  }
  std::shared_ptr<const Dataset> data() { return std::get<0>(GetParam()).data(); }
};
INSTANTIATE_TEST_SUITE_P(, EveryModel, testing::Combine(testing::ValuesIn(kModels), testing::Values("float32", "float64", "bf16", "fp16")),
                         [](const auto& info) { return std::get<0>(info.param).name + "_" + std::get<1>(info.param); });

TEST_P(EveryModel, GradientsAreThoseOfOneRank) {
  const VerifyReport report = verify_now(data());
  EXPECT_TRUE(report.passed) << to_text(report);
  ASSERT_GE(report.batches.size(), 2u);
  EXPECT_EQ(report.batches[1].samples, 3) << "the ragged last batch";
  for (const auto& batch : report.batches) EXPECT_GT(batch.largest_gradient, 0) << batch.what;
}

TEST_P(EveryModel, MicroBatchesAddUpToOneBatch) {
  config_.train.micro_batch = 2;
  const VerifyReport report = verify_now(data());
  EXPECT_TRUE(report.passed) << to_text(report);
}

/// A learner on all ranks and the same on each rank alone.
class TwoLearners : public ParityTest {
 protected:
  struct Pair {
    World solo{solo_communicator()};
    Learner team, alone;
    Loader loader;
    Pair(World& world, const RunConfig& together, const RunConfig& whole, const ModelRegistry& models,
         const std::shared_ptr<const Dataset>& data)
        : team(together, models, data->spec(), world),
          alone(whole, models, data->spec(), solo),
          loader(data, std::make_shared<SampleOrder>(data->size(), 3, true), nullptr, 3, LoaderOptions{.threads = 0, .augment = false}) {
      copy_values(team.parameters(), alone.parameters());
    }
  };

  StepPlan plan(std::int64_t steps) const { return {kSamples, kBatch, false, steps}; }

  std::unique_ptr<SyncStrategy> strategy(World& world, Learner& learner, std::int64_t steps, SyncOptions options = {}) {
    const Schedule schedule(config_.optim, {steps, plan(steps).steps_per_epoch(), kBatch});
    return std::make_unique<SyncStrategy>(world.communicator(), world.control(), learner.parameters(), learner.optimizer(), schedule,
                                          plan(steps), options);
  }

  static void step(Strategy& strategy, Learner& learner, Loader& loader) {
    const Piece piece = strategy.next_piece().value();
    strategy.begin_step(learner.backwards(piece), learner.nominal_weight(piece));
    strategy.finish_step(learner.compute_gradients(loader, piece));
  }

  static bool same_bits(const Arena& a, const Arena& b) {
    for (std::size_t i = 0; i < a.flats().size(); ++i) {
      const auto &x = a.flats()[i].values, &y = b.flats()[i].values;
      if (x.nbytes() != y.nbytes() || std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) != 0) return false;
    }
    return true;
  }
};

TEST_F(TwoLearners, MicroBatchesOnManyRanksEqualOneBatchOnOne) {
  RunConfig together = config_;
  together.train.micro_batch = 2;
  Pair pair(world_, together, config_, models_, classified({6}));
  for (const std::int64_t at : {0, 2}) {
    const auto ours = mean_gradient(pair.team, world_, pair.loader, plan(3), at);
    const auto whole = mean_gradient(pair.alone, pair.solo, pair.loader, plan(3), at);
    EXPECT_LE(compare_gradients(ours, whole, pair.team.parameters()).worst(), 1e-5) << at;
  }
}

/// Independent of everything that training does: one forward, one mean, autograd.
at::Tensor textbook_gradient(Learner& learner, const Batch& batch) {
  learner.model().train();
  const at::Tensor loss = learner.task().loss(learner.forward(batch.input), batch.target) / learner.task().weight(batch.target);
  std::vector<at::Tensor> parameters, parts;
  for (const auto& slot : learner.parameters().slots()) parameters.push_back(slot.parameter);
  for (const auto& gradient : torch::autograd::grad({loss}, parameters)) {
    parts.push_back(gradient.flatten().to(at::kDouble));
  }
  return torch::cat(parts);
}

TEST_F(TwoLearners, GradientsAreThoseOfTheMeanLoss) {
  for (const ModelCase& model : kModels) {
    if (model.name == "convnet_channels_last") continue;   // the arena keeps another order of elements
    SCOPED_TRACE(model.name);
    RunConfig config = config_;
    model.configure(config);
    Pair pair(world_, config, config, models_, model.data());
    for (const std::int64_t at : {0, 2}) {
      const Piece piece = plan(3).global_piece(at);
      const Batch batch = pair.loader.take(piece.epoch, piece.global_begin, piece.global_end);
      const auto ours = mean_gradient(pair.team, world_, pair.loader, plan(3), at);
      const auto wanted = textbook_gradient(pair.alone, batch);
      EXPECT_LE(compare_gradients(ours, wanted, pair.team.parameters()).worst(), 1e-5) << "step " << at;
    }
  }
}

/// Another cut in each step, each share from nothing to everything: a function of the step, so that all ranks know it.
class RandomShares final : public ShareRule {
 public:
  explicit RandomShares(int ranks) : ranks_(ranks) {}
  std::vector<std::int64_t> shares(const Piece& global) const override {
    Random random(5, Purpose::search, static_cast<std::uint64_t>(global.step));
    std::vector<std::int64_t> cuts{0, global.global_size()};
    for (int r = 1; r < ranks_; ++r) cuts.push_back(static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(global.global_size() + 1))));
    std::sort(cuts.begin(), cuts.end());
    std::vector<std::int64_t> shares;
    for (std::size_t r = 1; r < cuts.size(); ++r) shares.push_back(cuts[r] - cuts[r - 1]);
    return shares;
  }
  std::optional<ShareChange> observe(const Piece&, std::span<const RankStep> ranks) override {
    for (const RankStep& rank : ranks) least_ = std::min(least_, rank.samples);
    return std::nullopt;
  }
  std::int64_t least() const { return least_; }

 private:
  int ranks_;
  std::int64_t least_ = kBatch;
};

TEST_F(TwoLearners, AnySharesGiveTheGradientOfOneRank) {
  for (const auto& [precision, tolerance] : {std::pair("float32", 1e-5), std::pair("float64", 1e-12)}) {
    for (const std::int64_t micro_batch : {0, 2}) {
      RunConfig together = config_, whole = config_;
      together.train.precision = whole.train.precision = precision;
      together.train.micro_batch = micro_batch;
      together.task.class_weights = whole.task.class_weights = {1, 2, 0.5, 3, 0.1};
      Pair pair(world_, together, whole, models_, classified({6}));
      for (std::int64_t at = 0; at < 10; ++at) {
        const auto ours = mean_gradient(pair.team, world_, pair.loader, plan(10), at, std::make_shared<RandomShares>(world_.size()));
        const auto alone = mean_gradient(pair.alone, pair.solo, pair.loader, plan(10), at);
        EXPECT_LE(compare_gradients(ours, alone, pair.team.parameters()).worst(), tolerance) << precision << ", step " << at;
      }
    }
  }
}

TEST_F(TwoLearners, AHundredStepsCutAtRandomEndWithTheParametersOfOneRank) {
  for (const std::string shared_memory : {"auto", "gradients", "off"}) {
    config_.parallel.shared_memory = shared_memory;
    config_.optim.lr = 0.02;
    config_.optim.momentum = 0.9;
    Pair pair(world_, config_, config_, models_, classified({6}));
    const auto rule = std::make_shared<RandomShares>(world_.size());
    const auto team = strategy(world_, pair.team, 100, {.shares = rule});
    const auto alone = strategy(pair.solo, pair.alone, 100);
    const at::Tensor start = flat_values(pair.team.parameters());
    for (int i = 0; i < 100; ++i) {
      step(*team, pair.team, pair.loader);
      step(*alone, pair.alone, pair.loader);
    }
    const at::Tensor ours = flat_values(pair.team.parameters()), whole = flat_values(pair.alone.parameters());
    EXPECT_GT((ours - start).abs().max().item<double>(), 1e-2) << "the parameters moved";
    EXPECT_LE((ours - whole).abs().max().item<double>() / whole.abs().max().item<double>(), 1e-4) << shared_memory;
    EXPECT_EQ(rule->least(), world_.size() > 1 ? 0 : 3) << "some rank had nothing to do in some step";
  }
}

class TwentySteps : public TwoLearners, public testing::WithParamInterface<std::string> {};
INSTANTIATE_TEST_SUITE_P(, TwentySteps, testing::Values("mlp", "convnet", "transformer"),
                         [](const auto& info) { return info.param; });

TEST_P(TwentySteps, OfSgdEndWithTheParametersOfOneRank) {
  config_.model.name = GetParam();
  config_.optim.lr = 0.05;
  config_.optim.clip_norm = 1;
  std::shared_ptr<const Dataset> data = std::make_shared<TokenDataset>();
  if (GetParam() != "transformer") data = classified(GetParam() == "mlp" ? std::vector<std::int64_t>{6} : std::vector<std::int64_t>{1, 8, 8});
  Pair pair(world_, config_, config_, models_, data);
  const auto team = strategy(world_, pair.team, 20, {.clip_norm = 1});
  const auto alone = strategy(pair.solo, pair.alone, 20, {.clip_norm = 1});
  const at::Tensor start = flat_values(pair.team.parameters());
  for (int i = 0; i < 20; ++i) {
    step(*team, pair.team, pair.loader);
    step(*alone, pair.alone, pair.loader);
  }
  const at::Tensor ours = flat_values(pair.team.parameters()), whole = flat_values(pair.alone.parameters());
  EXPECT_GT((ours - start).abs().max().item<double>(), 1e-2) << "the parameters moved";
  EXPECT_LE((ours - whole).abs().max().item<double>() / whole.abs().max().item<double>(), 1e-5);
}

class EveryOptimizer : public TwoLearners, public testing::WithParamInterface<std::string> {};
INSTANTIATE_TEST_SUITE_P(, EveryOptimizer, testing::Values("sgd", "adam", "adamw", "adagrad"),
                         [](const auto& info) { return info.param; });

TEST_P(EveryOptimizer, MakesTheSameStepFromTheSameGradientBitForBit) {
  config_.optim.name = GetParam();
  config_.optim.lr = 0.01;
  config_.optim.weight_decay = 0.01;
  Pair pair(world_, config_, config_, models_, classified({6}));
  const auto team = strategy(world_, pair.team, 5);
  for (int i = 0; i < 5; ++i) {
    step(*team, pair.team, pair.loader);
    for (std::size_t f = 0; f < pair.team.parameters().flats().size(); ++f) {   // the sum over ranks, as the team's optimizer saw it
      at::Tensor gradients = pair.alone.parameters().flats()[f].gradients;
      gradients.copy_(pair.team.parameters().flats()[f].gradients);
    }
    for (const auto& segment : pair.alone.parameters().segments()) {
      pair.alone.optimizer().step(segment.range, segment.group, {.lr = config_.optim.lr, .number = static_cast<double>(i + 1)});
    }
    ASSERT_TRUE(same_bits(pair.team.parameters(), pair.alone.parameters())) << "step " << i + 1;
  }
}

/// A layer that only some samples pass, one that nobody uses and one that is frozen.
class Partial : public Model {
 public:
  Partial(std::int64_t features, std::int64_t classes) {
    unused_ = register_module("unused", torch::nn::Linear(features, 3));
    frozen_ = register_module("frozen", torch::nn::Linear(features, features));
    rare_ = register_module("rare", torch::nn::Linear(features, features));
    output_ = register_module("output", torch::nn::Linear(features, classes));
    for (auto& parameter : frozen_->parameters()) parameter.set_requires_grad(false);
  }
  at::Tensor forward(const at::Tensor& input) override {
    at::Tensor x = torch::tanh(frozen_(input));
    const at::Tensor chosen = torch::nonzero(input.select(1, 0) > 1).flatten();   // few samples; none on some ranks
    if (chosen.numel() > 0) x = x.index_add(0, chosen, rare_(input.index_select(0, chosen)));
    return output_(x);
  }

 private:
  torch::nn::Linear unused_{nullptr}, frozen_{nullptr}, rare_{nullptr}, output_{nullptr};
};

TEST_F(TwoLearners, UnusedFrozenAndRarelyUsedParametersKeepParity) {
  models_.add("partial", "", [](const ModelConfig&, const SampleSpec& spec) {
    return std::make_shared<Partial>(spec.input_shape[0], spec.num_classes);
  });
  config_.model.name = "partial";
  const auto data = classified({6});
  const VerifyReport report = verify_now(data);
  EXPECT_TRUE(report.passed) << to_text(report);

  Pair pair(world_, config_, config_, models_, data);
  std::vector<at::Tensor> before;
  for (const auto& slot : pair.team.parameters().slots()) before.push_back(slot.parameter.detach().clone());
  const auto team = strategy(world_, pair.team, 3);
  for (int i = 0; i < 3; ++i) step(*team, pair.team, pair.loader);
  const auto& slots = pair.team.parameters().slots();
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const bool still = slots[i].name.starts_with("unused") || slots[i].name.starts_with("frozen");
    EXPECT_EQ(torch::equal(slots[i].parameter, before[i]), still) << slots[i].name;
  }
}

TEST_F(ParityTest, SyncBatchNormIsThatOfTheGlobalBatch) {
  config_.data.batch = 8;   // 23 samples: the last batch has 7, enough for every rank
  config_.model.name = "convnet";
  config_.model.norm = "batch";
  config_.model.batch_norm = "sync";
  for (const char* precision : {"float32", "float64"}) {
    config_.train.precision = precision;
    const VerifyReport report = verify_now(classified({1, 8, 8}));
    EXPECT_TRUE(report.passed) << to_text(report);
  }
}

}  // namespace
}  // namespace tugline
