// SPDX-License-Identifier: Apache-2.0
// verify() must say no where ranks differ, and name the cause.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <torch/torch.h>

#include "tugline/core/error.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/tests/trainers/verify/parity_lab.hpp"
#include "tugline/trainers/learner.hpp"
#include "tugline/trainers/verify/forward_trace.hpp"

namespace tugline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class TwoLayers : public Model {
 public:
  using Middle = std::function<at::Tensor(const at::Tensor&)>;
  TwoLayers(Middle middle, std::int64_t features, std::int64_t classes) : middle_(std::move(middle)) {
    last_ = register_module("last", torch::nn::Linear(4, classes));
    early_ = register_module("early", torch::nn::Linear(features, 4));
  }
  at::Tensor forward(const at::Tensor& input) override { return last_(middle_(early_(input))); }

 private:
  Middle middle_;
  torch::nn::Linear last_{nullptr}, early_{nullptr};
};

class VerifyTest : public ParityTest {
 protected:
  void use_model(TwoLayers::Middle middle) {
    models_.add("two", "", [middle](const ModelConfig&, const SampleSpec& spec) {
      return std::make_shared<TwoLayers>(middle, spec.input_shape[0], spec.num_classes);
    });
    config_.model.name = "two";
  }
  VerifyReport expect_cause(const std::string& cause, std::shared_ptr<const Dataset> data = classified({6})) {
    const VerifyReport report = verify_now(std::move(data));
    EXPECT_FALSE(report.passed);
    EXPECT_EQ(report.cause, cause) << to_text(report);
    return report;
  }
};

TEST_F(VerifyTest, PassesAModelThatKeepsSamplesApart) {
  use_model([](const at::Tensor& x) { return torch::tanh(x); });
  const VerifyReport report = verify_now(classified({6}));
  EXPECT_TRUE(report.passed) << to_text(report);
  EXPECT_EQ(report.cause, "");
  EXPECT_EQ(report.first_layer, "");
  const std::string text = to_text(report);
  EXPECT_THAT(text, HasSubstr("PASSED"));
  EXPECT_THAT(text, HasSubstr("early.weight"));
}

TEST_F(VerifyTest, NamesTheFirstLayerInForwardOrder) {
  if (alone()) GTEST_SKIP() << "one rank has no other to differ from";
  use_model([](const at::Tensor& x) { return x - x.mean(0, true); });   // mixes the samples of a rank
  const VerifyReport report = expect_cause("ranks_disagree");
  EXPECT_EQ(report.first_layer, "early") << "registered last, used first";
  EXPECT_THAT(to_text(report), HasSubstr("FAILED"));
}

TEST_F(VerifyTest, FindsAModelThatReadsTheRank) {
  if (alone()) GTEST_SKIP() << "one rank has no other to differ from";
  const int rank = world_.rank();
  use_model([rank](const at::Tensor& x) { return x * (1.0 + 0.1 * rank); });
  EXPECT_THAT(expect_cause("reads_rank").explanation, HasSubstr("Rank 1 and rank 0"));
}

TEST_F(VerifyTest, FindsNonDeterminismOnAnyNumberOfRanks) {
  auto calls = std::make_shared<int>(0);
  use_model([calls](const at::Tensor& x) { return x * (1.0 + 0.01 * ++*calls); });
  EXPECT_THAT(expect_cause("nondeterministic").explanation, HasSubstr("twice"));
}

TEST_F(VerifyTest, FindsDropoutOfTheConfig) {
  if (alone()) GTEST_SKIP() << "one rank has no other to differ from";
  config_.model.dropout = 0.5;
  EXPECT_THAT(expect_cause("dropout").explanation, HasSubstr("model.dropout=0"));
}

TEST_F(VerifyTest, FindsDropoutModulesOfAModel) {
  if (alone()) GTEST_SKIP() << "one rank has no other to differ from";
  models_.add("dropping", "", [](const ModelConfig&, const SampleSpec& spec) {
    class Dropping : public Model {
     public:
      Dropping(std::int64_t features, std::int64_t classes) {
        drop_ = register_module("drop", torch::nn::Dropout(0.5));
        output_ = register_module("output", torch::nn::Linear(features, classes));
      }
      at::Tensor forward(const at::Tensor& input) override { return output_(drop_(input)); }
      torch::nn::Dropout drop_{nullptr};
      torch::nn::Linear output_{nullptr};
    };
    return std::make_shared<Dropping>(spec.input_shape[0], spec.num_classes);
  });
  config_.model.name = "dropping";
  expect_cause("dropout");
}

TEST_F(VerifyTest, FindsLocalBatchNormAndSuggestsSync) {
  if (alone()) GTEST_SKIP() << "one rank has no other to differ from";
  config_.data.batch = 8;
  config_.model.name = "convnet";
  config_.model.norm = "batch";
  EXPECT_THAT(expect_cause("batch_norm_local", classified({1, 8, 8})).explanation, HasSubstr("goes with model.batch_norm: sync"));
}

TEST_F(VerifyTest, SeesThatADifferenceIsRounding) {
  if (alone()) GTEST_SKIP() << "one rank has no other to differ from";
  config_.model.name = "mlp";
  const VerifyReport report = verify(world_, {config_, models_, classified({6}), nullptr}, 0.0);   // nothing is that exact
  EXPECT_FALSE(report.passed) << "a tolerance that was asked for holds";
  EXPECT_EQ(report.cause, "rounding") << to_text(report);
}

TEST_F(VerifyTest, FindsNan) {
  use_model([](const at::Tensor& x) { return torch::log(-x.abs()); });
  expect_cause("non_finite");
}

TEST_F(VerifyTest, FindsNanThatOnlyOneRankSees) {
  if (alone()) GTEST_SKIP() << "one rank has no other to differ from";
  const int rank = world_.rank();
  use_model([rank](const at::Tensor& x) { return rank == 1 ? torch::log(-x.abs()) : x; });
  expect_cause("non_finite");
}

TEST_F(VerifyTest, RefusesSyncBatchNormInMicroBatches) {
  if (alone()) GTEST_SKIP() << "one rank makes as many passes as it likes";
  config_.model.name = "convnet";
  config_.model.norm = "batch";
  config_.model.batch_norm = "sync";
  config_.data.batch = 8;
  config_.train.micro_batch = 3;
  EXPECT_THROW(verify_now(classified({1, 8, 8})), AgreedError);
}

TEST_F(VerifyTest, RefusesSyncBatchNormWithoutASampleForEveryRank) {
  if (world_.size() < 4) GTEST_SKIP() << "the last batch has 3 samples";
  config_.model.name = "convnet";
  config_.model.norm = "batch";
  config_.model.batch_norm = "sync";
  EXPECT_THROW(verify_now(classified({1, 8, 8})), Error);
}

TEST_F(VerifyTest, TraceKnowsForwardOrderAndTheFirstNan) {
  use_model([](const at::Tensor& x) { return torch::log(-1 - x.abs()); });
  Learner learner(config_, models_, classified({6})->spec(), world_);
  const ForwardTrace trace(learner.parameters());
  learner.forward(torch::ones({2, 6}));
  EXPECT_THAT(trace.order(), ElementsAre("early.weight", "early.bias", "last.weight", "last.bias"));
  ASSERT_TRUE(trace.first_non_finite().has_value());
  EXPECT_EQ(trace.first_non_finite()->op, "log");
  EXPECT_EQ(layer_of(trace.first_non_finite()->parameter), "early");
  EXPECT_TRUE(trace.first_non_finite()->nan);
}

}  // namespace
}  // namespace tugline
