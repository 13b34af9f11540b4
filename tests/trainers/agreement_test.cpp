// SPDX-License-Identifier: Apache-2.0
// Ranks that were given different things stop with the first difference.
#include "tugline/tests/trainers/trainer_lab.hpp"
#include "tugline/trainers/prepare.hpp"

namespace tugline {
namespace {

class AgreementTest : public TrainerLab {
 protected:
  /// The sentence of the error that every rank throws alike; exit code 77.
  std::string difference(const std::function<void()>& body) {
    std::string text;
    try {
      body();
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::disagree);
      text = error.what();
    }
    EXPECT_TRUE(same_on_all_ranks(text));
    return text;
  }
  std::string between(const std::string& first, const std::string& other) const {
    return world_.size() == 1 ? "" : fmt::format("rank 0 has '{}', rank {} has '{}'", first, world_.size() - 1, other);
  }
};

TEST_F(AgreementTest, NamesTheFirstFactThatDiffers) {
  const std::string mine = last() && world_.size() > 1 ? "blue" : "red";
  EXPECT_THAT(difference([&] { require_equal(world_.control(), {{"shape", "round"}, {"colour", mine}, {"size", mine}}); }),
              testing::HasSubstr(world_.size() == 1 ? "" : "colour: " + between("red", "blue")));
}

TEST_F(AgreementTest, DataOfAnotherSeedOrSize) {
  if (world_.size() == 1) GTEST_SKIP() << "one rank agrees with itself";
  config_.data.name = "synthetic";
  config_.data.samples = 100;
  EXPECT_EQ(difference([&] { open_agreed_data(world_, config_); }), "");
  config_.data.seed = last() ? 1 : 0;
  EXPECT_THAT(difference([&] { open_agreed_data(world_, config_); }), testing::HasSubstr("training data"));
  config_.data.seed = 0;
  config_.data.samples = last() ? 200 : 100;
  const std::string text = difference([&] { open_agreed_data(world_, config_); });
  EXPECT_THAT(text, testing::AllOf(testing::HasSubstr("rank 0 has '80 samples"), testing::HasSubstr("has '160 samples")));
}

TEST_F(AgreementTest, ModelsOfAnotherShape) {
  if (world_.size() == 1) GTEST_SKIP() << "one rank agrees with itself";
  if (last()) config_.model.hidden = {10};
  const std::string text = difference([&] { Learner(config_, models_, data_.train->spec(), world_); });
  EXPECT_THAT(text, testing::AllOf(testing::HasSubstr("parameter"), testing::HasSubstr("[9"), testing::HasSubstr("[10")));
}

/// The same shapes under other names, or one layer frozen: sums over the ranks would mix different things.
class Pair final : public Model {
 public:
  Pair(bool swapped, bool frozen) {
    first_ = register_module(swapped ? "second" : "first", torch::nn::Linear(64, 64));
    second_ = register_module(swapped ? "first" : "second", torch::nn::Linear(64, 10));
    third_ = register_module("third", torch::nn::Linear(64, 64));
    if (frozen) third_->bias.set_requires_grad(false);
  }
  at::Tensor forward(const at::Tensor& input) override { return second_(third_(first_(input.flatten(1)))); }

 private:
  torch::nn::Linear first_{nullptr}, second_{nullptr}, third_{nullptr};
};

TEST_F(AgreementTest, ModelsWithOtherNamesOrFrozenParameters) {
  if (world_.size() == 1) GTEST_SKIP() << "one rank agrees with itself";
  config_.model.name = "pair";
  bool swapped = last(), frozen = false;
  models_.add("pair", "", [&](const ModelConfig&, const SampleSpec&) { return std::make_shared<Pair>(swapped, frozen); });
  EXPECT_THAT(difference([&] { Learner(config_, models_, data_.train->spec(), world_); }),
              testing::AllOf(testing::HasSubstr("first."), testing::HasSubstr("second.")));
  swapped = false;
  frozen = last();
  EXPECT_THAT(difference([&] { Learner(config_, models_, data_.train->spec(), world_); }), testing::HasSubstr("third.bias"));
}

TEST_F(AgreementTest, AModelThatOneRankCannotBuildStopsAll) {
  models_.add("moody", "", [&](const ModelConfig&, const SampleSpec&) -> std::shared_ptr<Model> {
    if (last()) throw ConfigError("not on this rank");
    return std::make_shared<Pair>(false, false);
  });
  config_.model.name = "moody";
  std::string text;
  try {
    Learner(config_, models_, data_.train->spec(), world_);
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::config);
    text = error.what();
  }
  EXPECT_EQ(text, "not on this rank");
}

/// A stray write, a flipped bit: what one rank's copy has and no other's, found at the next comparison and named.
TEST_F(AgreementTest, ReplicasThatDriftApart) {
  if (world_.size() == 1) GTEST_SKIP() << "one rank agrees with itself";
  config_.parallel.shared_memory = "off";   // a copy each
  config_.parallel.check_every = 2;
  config_.optim.momentum = 0.9;
  EXPECT_EQ(train({.folder = "untouched"}).result.ending, Ending::done);
  const auto drift = [&](const std::string& folder, const std::function<at::Tensor(Learner&)>& pick) {
    Plan plan{.folder = folder};
    plan.after_step = [&](std::int64_t step, Learner& learner) {
      const torch::NoGradGuard no_grad;
      if (step == 3 && last()) pick(learner).view(-1)[0] += 1e-3;
    };
    return difference([&] { train(plan); });
  };
  const std::string rank = "differs between rank 0 and rank " + std::to_string(world_.size() - 1);
  EXPECT_THAT(drift("parameter", [](Learner& learner) { return learner.parameters().slots()[1].parameter.detach(); }),
              testing::AllOf(testing::HasSubstr("after step 4: parameter '"), testing::HasSubstr(rank)));
  // Momentum moves the parameter at the next step, which is named first.
  config_.parallel.check_every = 3;
  EXPECT_THAT(drift("momentum", [](Learner& learner) {
                return learner.parameters().view(learner.optimizer().slots()[0].buffers, learner.parameters().slots()[0]);
              }), testing::AllOf(testing::HasSubstr("after step 3: momentum of '"), testing::HasSubstr(rank)));
}

}  // namespace
}  // namespace tugline
