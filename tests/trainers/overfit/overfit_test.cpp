// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include <boost/json.hpp>
#include <boost/property_tree/ptree.hpp>
#include <boost/property_tree/xml_parser.hpp>

#include <sstream>

#include "tugline/core/error.hpp"
#include "tugline/tests/trainers/overfit/gate_lab.hpp"

namespace tugline {
namespace {

using testing::ElementsAre;

std::shared_ptr<MemoryDataset> labelled(std::vector<float> inputs, std::vector<std::int64_t> labels) {
  SampleSpec spec;
  spec.input_shape = {1};
  spec.num_classes = 3;
  const auto count = std::ssize(labels);
  return std::make_shared<MemoryDataset>(spec, count, std::move(inputs), std::move(labels));
}

TEST(ChooseSamples, TakesAsManyClassesAsPossible) {
  EXPECT_THAT(choose_samples(*labelled({1, 2, 3, 4, 5, 6}, {0, 0, 0, 0, 1, 2}), 3), ElementsAre(0, 4, 5));
  EXPECT_THAT(choose_samples(*labelled({1, 2, 3, 4, 5, 6}, {0, 0, 0, 0, 1, 2}), 5), ElementsAre(0, 1, 2, 4, 5));
}

TEST(ChooseSamples, SkipsRepeatsButKeepsContradictions) {
  EXPECT_THAT(choose_samples(*labelled({1, 1, 1, 2}, {0, 0, 1, 0}), 10), ElementsAre(0, 2, 3));
}

TEST(ChooseSamples, TakesAllOfASmallSet) { EXPECT_THAT(choose_samples(*labelled({1, 2}, {0, 1}), 10), ElementsAre(0, 1)); }

TEST(OverfitConfig, TurnsOffWhatKeepsFromLearningByHeart) {
  RunConfig config;
  config.data.batch = 64;
  config.data.augment = {.pad_crop = 2, .flip = true, .noise = 0.1};
  config.model.dropout = 0.5;
  config.task.label_smoothing = 0.1;
  config.optim.weight_decay = 0.1;
  config.optim.groups = {{"*.bias", 2, 0.5}};
  config.optim.schedule.name = "cosine";
  config.optim.schedule.warmup = 5;
  config.optim.lr = 0.1;
  config.optim.lr_scale = "linear";
  config.optim.base_batch = 32;
  const RunConfig gate = overfit_config(config, 10);
  EXPECT_EQ(gate.data.batch, 10);
  EXPECT_FALSE(gate.data.shuffle);
  EXPECT_EQ(gate.data.augment.pad_crop, 0);
  EXPECT_FALSE(gate.data.augment.flip);
  EXPECT_EQ(gate.data.augment.noise, 0);
  EXPECT_EQ(gate.model.dropout, 0);
  EXPECT_EQ(gate.task.label_smoothing, 0);
  EXPECT_EQ(gate.optim.weight_decay, 0);
  EXPECT_EQ(gate.optim.groups[0].weight_decay, 0);
  EXPECT_EQ(gate.optim.groups[0].lr_factor, 2);
  EXPECT_EQ(gate.optim.schedule.name, "constant");
  EXPECT_DOUBLE_EQ(gate.optim.lr, 0.2) << "the peak that training would use";
}

TEST(Gate, PassesWithMoreRanksThanSamples) {
  GateLab lab;
  lab.ranks = 5;
  lab.config.overfit.samples = 3;
  const OverfitVerdict verdict = lab.run();
  EXPECT_TRUE(verdict.passed) << to_text(verdict);
  EXPECT_EQ(verdict.samples, 3);
}

TEST(Gate, TakesTheSameStepsAtAnyNumberOfRanks) {
  GateLab one, three;
  three.ranks = 3;
  const OverfitVerdict a = one.run(), b = three.run();
  ASSERT_EQ(a.evaluations.size(), b.evaluations.size());
  for (std::size_t i = 0; i < a.evaluations.size(); ++i) EXPECT_NEAR(a.evaluations[i].loss, b.evaluations[i].loss, 1e-4) << i;
}

TEST(Gate, HoldsTheTargetAsOftenAsAsked) {
  GateLab lab;
  lab.config.overfit.hold = 3;
  lab.config.overfit.eval_every = 4;
  const OverfitVerdict verdict = lab.run();
  ASSERT_TRUE(verdict.passed);
  EXPECT_EQ(verdict.evaluations.front().step, 0);
  EXPECT_EQ(verdict.steps % 4, 0);
  const auto good = std::count_if(verdict.evaluations.begin(), verdict.evaluations.end(),
                                  [](const OverfitEvaluation& e) { return e.loss <= 0.05 && e.accuracy == 1.0; });
  EXPECT_EQ(good, 3);
}

TEST(Gate, JudgesRegressionByTheLossAlone) {
  GateLab lab;
  lab.ranks = 2;
  SampleSpec spec;
  spec.input_shape = {2};
  spec.target_shape = {1};
  spec.target_dtype = DType::float32;
  lab.train = std::make_shared<MemoryDataset>(spec, 4, std::vector<float>{0, 0, 0, 1, 1, 0, 1, 1}, std::vector<float>{0, 1, 1, 0});
  lab.config.optim.lr = 0.05;
  const OverfitVerdict verdict = lab.run();
  EXPECT_TRUE(verdict.passed) << to_text(verdict);
  EXPECT_FALSE(verdict.accuracy.has_value());
  EXPECT_FALSE(verdict.target_accuracy.has_value());
}

TEST(Gate, RefusesAnEmptySplit) {
  GateLab lab;
  lab.train = random_points(0);
  EXPECT_THROW(lab.run(), Error);
}

OverfitVerdict some_verdict() {
  OverfitVerdict verdict;
  verdict.name = "a <b> & \"c\"";
  verdict.reason = "no_gradient";
  verdict.explanation = "No gradient reaches layer x<y>.";
  verdict.loss = std::numeric_limits<double>::infinity();
  verdict.accuracy = 0.5;
  verdict.target_accuracy = 1;
  verdict.samples = 10;
  verdict.evaluations = {{0, 2.3, 0.1}, {5, std::numeric_limits<double>::quiet_NaN(), std::nullopt}};
  return verdict;
}

TEST(Verdict, JsonHoldsEveryField) {
  const auto object = boost::json::parse(to_json(some_verdict())).as_object();
  EXPECT_EQ(object.at("name").as_string(), "a <b> & \"c\"");
  EXPECT_FALSE(object.at("passed").as_bool());
  EXPECT_EQ(object.at("reason").as_string(), "no_gradient");
  EXPECT_TRUE(object.at("loss").is_null());
  EXPECT_EQ(object.at("evaluations").as_array().size(), 2u);
  EXPECT_TRUE(object.at("evaluations").as_array()[1].at("loss").is_null());
}

TEST(Verdict, JunitIsWellFormedAndCountsTheFailure) {
  const auto parse = [](const OverfitVerdict& verdict) {
    std::istringstream in(to_junit_xml(verdict));
    boost::property_tree::ptree tree;
    boost::property_tree::read_xml(in, tree);
    return tree;
  };
  auto tree = parse(some_verdict());
  EXPECT_EQ(tree.get<int>("testsuite.<xmlattr>.failures"), 1);
  EXPECT_EQ(tree.get<std::string>("testsuite.testcase.<xmlattr>.name"), "a <b> & \"c\"");
  EXPECT_EQ(tree.get<std::string>("testsuite.testcase.failure.<xmlattr>.type"), "no_gradient");
  OverfitVerdict passed = some_verdict();
  passed.passed = true;
  tree = parse(passed);
  EXPECT_EQ(tree.get<int>("testsuite.<xmlattr>.failures"), 0);
  EXPECT_FALSE(tree.get_child_optional("testsuite.testcase.failure").has_value());
}

TEST(Verdict, TextSaysResultReasonAndTargets) {
  const std::string text = to_text(some_verdict());
  EXPECT_THAT(text, testing::HasSubstr("FAILED"));
  EXPECT_THAT(text, testing::HasSubstr("no_gradient: No gradient reaches layer x<y>."));
  EXPECT_THAT(text, testing::HasSubstr("to reach: 1"));
}

}  // namespace
}  // namespace tugline
