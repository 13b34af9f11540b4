// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/tasks/task.hpp"

namespace tugline {
namespace {

using ::testing::HasSubstr;

SampleSpec class_spec(std::int64_t classes) { return {.input_shape = {4}, .num_classes = classes}; }
SampleSpec value_spec(std::vector<std::int64_t> target_shape) {
  return {.input_shape = {4}, .target_shape = std::move(target_shape), .target_dtype = DType::float32};
}
SampleSpec token_spec(std::int64_t time, std::int64_t vocabulary) {
  return {.input_shape = {time}, .input_dtype = DType::int64, .target_shape = {time}, .num_classes = vocabulary};
}

TaskConfig task_config(std::vector<double> class_weights = {}, double smoothing = 0) {
  TaskConfig config;
  config.class_weights = std::move(class_weights);
  config.label_smoothing = smoothing;
  return config;
}

at::Tensor logits(std::vector<std::int64_t> shape) {
  torch::manual_seed(2);
  return torch::randn(shape, at::kDouble).requires_grad_(true);
}

/// The parts of a batch must add up to the batch: loss, weight, gradient and every sum of evaluate().
void expect_parts_add_up(const Task& task, const at::Tensor& output, const at::Tensor& target,
                         const std::vector<std::int64_t>& shares) {
  const at::Tensor whole = task.loss(output, target);
  const EvalSums whole_eval = task.evaluate(output, target);
  const at::Tensor whole_gradient = torch::autograd::grad({whole}, {output})[0];
  double loss = 0, weight = 0;
  EvalSums eval;
  at::Tensor gradient = torch::zeros_like(output);
  std::int64_t begin = 0;
  for (const std::int64_t share : shares) {
    const at::Tensor part = output.narrow(0, begin, share), part_target = target.narrow(0, begin, share);
    const at::Tensor sum = task.loss(part, part_target);
    loss += sum.item<double>();
    weight += task.weight(part_target);
    gradient += torch::autograd::grad({sum}, {output})[0];
    eval += task.evaluate(part, part_target);
    begin += share;
  }
  ASSERT_EQ(begin, output.size(0));
  EXPECT_NEAR(loss, whole.item<double>(), 1e-12 * std::abs(loss));
  EXPECT_NEAR(weight, task.weight(target), 1e-12 * weight);
  EXPECT_TRUE(torch::allclose(gradient, whole_gradient, 1e-12, 1e-15));
  EXPECT_NEAR(eval.loss, whole_eval.loss, 1e-12 * std::abs(eval.loss));
  EXPECT_NEAR(eval.loss, loss, 1e-12 * std::abs(loss));
  EXPECT_NEAR(eval.weight, weight, 1e-12 * weight);
  EXPECT_EQ(eval.correct, whole_eval.correct);
  EXPECT_EQ(eval.counted, whole_eval.counted);
  EXPECT_EQ(task.counted(target), whole_eval.counted);
  const at::Tensor correct = task.correct(output, target);
  EXPECT_EQ(correct.defined(), task.has_accuracy());
  EXPECT_EQ(correct.defined() ? correct.item<std::int64_t>() : 0, whole_eval.correct);
}

TEST(Classification, MeanEqualsTorchWithWeightsAndSmoothing) {
  const at::Tensor output = logits({7, 3});
  const at::Tensor target = torch::tensor({0, 1, 2, 2, 2, 1, 0}, at::kLong);
  for (const double smoothing : {0.0, 0.1}) {
    for (const std::vector<double>& weights : {std::vector<double>{}, {0.5, 1.0, 4.0}}) {
      const auto task = make_task(task_config(weights, smoothing), class_spec(3));
      const at::Tensor class_weights = weights.empty() ? at::Tensor() : torch::tensor(weights, at::kDouble);
      const at::Tensor expected =
          at::cross_entropy_loss(output, target, class_weights, at::Reduction::Mean, -100, smoothing);
      const at::Tensor loss = task->loss(output, target);
      EXPECT_NEAR(loss.item<double>() / task->weight(target), expected.item<double>(), 1e-14);
      EXPECT_TRUE(loss.requires_grad());
      expect_parts_add_up(*task, output, target, {4, 1, 2});
    }
  }
}

TEST(Classification, ByHand) {
  // Two classes, logits (0, log 3): probabilities 1/4 and 3/4.
  const at::Tensor output = torch::tensor({{0.0, std::log(3.0)}, {0.0, std::log(3.0)}}, at::kDouble);
  const at::Tensor target = torch::tensor({0, 1}, at::kLong);
  const auto plain = make_task(task_config(), class_spec(2));
  EXPECT_NEAR(plain->loss(output, target).item<double>(), std::log(4.0) + std::log(4.0 / 3), 1e-14);
  EXPECT_EQ(plain->weight(target), 2);
  const auto weighted = make_task(task_config({10, 1}), class_spec(2));
  EXPECT_NEAR(weighted->loss(output, target).item<double>(), 10 * std::log(4.0) + std::log(4.0 / 3), 1e-13);
  EXPECT_EQ(weighted->weight(target), 11);
  const auto smooth = make_task(task_config({}, 0.2), class_spec(2));  // targets (0.9, 0.1) and (0.1, 0.9)
  EXPECT_NEAR(smooth->loss(output, target).item<double>(), std::log(4.0) + std::log(4.0 / 3), 1e-14);
  const EvalSums sums = plain->evaluate(output, target);
  EXPECT_EQ(sums.correct, 1);
  EXPECT_EQ(sums.counted, 2);
  EXPECT_TRUE(plain->has_accuracy());
}

TEST(Classification, NominalWeightIsExactWithoutClassWeights) {
  EXPECT_EQ(make_task(task_config(), class_spec(3))->nominal_weight(64), 64);
  EXPECT_EQ(make_task(task_config({1, 2, 6}), class_spec(3))->nominal_weight(64), 3 * 64);
}

TEST(Classification, EmptyBatchIsZero) {
  const auto task = make_task(task_config({1, 2, 6}), class_spec(3));
  const at::Tensor output = torch::zeros({0, 3}, at::kDouble), target = torch::zeros({0}, at::kLong);
  EXPECT_EQ(task->loss(output, target).item<double>(), 0);
  EXPECT_EQ(task->weight(target), 0);
  EXPECT_EQ(task->evaluate(output, target).counted, 0);
}

TEST(LanguageModel, SumsOverTokensAndMasksTheIgnored) {
  const at::Tensor output = logits({3, 4, 5});
  at::Tensor target = torch::tensor({{0, 1, 2, 3}, {4, -100, 1, -100}, {-100, -100, -100, -100}}, at::kLong);
  const auto task = make_task(task_config(), token_spec(4, 5));
  const at::Tensor expected = at::cross_entropy_loss(output.flatten(0, 1), target.flatten(), {}, at::Reduction::Mean);
  const at::Tensor loss = task->loss(output, target);
  EXPECT_EQ(task->weight(target), 6);
  EXPECT_NEAR(loss.item<double>() / task->weight(target), expected.item<double>(), 1e-14);
  expect_parts_add_up(*task, output, target, {1, 1, 1});
  expect_parts_add_up(*make_task(task_config({}, 0.1), token_spec(4, 5)), output, target, {2, 1});

  // A model that is always right is right on the six tokens that count.
  const at::Tensor perfect = torch::one_hot(target.clamp_min(0), 5).to(at::kDouble) * 50;
  const EvalSums sums = task->evaluate(perfect, target);
  EXPECT_EQ(sums.correct, 6);
  EXPECT_EQ(sums.counted, 6);
  EXPECT_NEAR(sums.loss, 0, 1e-12);
  EXPECT_EQ(task->nominal_weight(8), 32);
}

TEST(Regression, ByHandAveragesOutputsAndSumsSamples) {
  const auto task = make_task(task_config(), value_spec({2}));
  const at::Tensor output = torch::tensor({{1.0, 2.0}, {3.0, 4.0}, {0.0, 0.0}}, at::kDouble).requires_grad_(true);
  const at::Tensor target = torch::tensor({{0.0, 0.0}, {3.0, 2.0}, {1.0, 1.0}}, at::kFloat);
  const at::Tensor loss = task->loss(output, target);
  EXPECT_DOUBLE_EQ(loss.item<double>(), (1.0 + 4) / 2 + (0.0 + 4) / 2 + (1.0 + 1) / 2);
  EXPECT_EQ(task->weight(target), 3);
  EXPECT_FALSE(task->has_accuracy());
  EXPECT_EQ(task->evaluate(output, target).counted, 0);
  EXPECT_EQ(task->nominal_weight(3), 3);
  expect_parts_add_up(*task, output, target, {2, 1});
}

TEST(Regression, ColumnsAndVectorsAreTheSameThing) {
  const auto task = make_task(task_config(), value_spec({}));
  const at::Tensor target = torch::tensor({1.0, 2.0, 4.0}, at::kFloat);
  EXPECT_EQ(task->loss(torch::zeros({3, 1}), target).item<double>(), 21);
  EXPECT_EQ(task->loss(torch::zeros({3}), target).item<double>(), 21);
  EXPECT_THROW(task->loss(torch::zeros({3, 3}), target), Error);
}

TEST(MakeTask, AutoPicksByTheData) {
  EXPECT_EQ(make_task(task_config(), class_spec(3))->nominal_weight(2), 2);
  EXPECT_TRUE(make_task(task_config(), class_spec(3))->has_accuracy());
  EXPECT_FALSE(make_task(task_config(), value_spec({1}))->has_accuracy());
  EXPECT_EQ(make_task(task_config(), token_spec(4, 5))->nominal_weight(2), 8);
}

std::string message_of(TaskConfig config, const std::string& name, const SampleSpec& spec) {
  config.name = name;
  try {
    make_task(config, spec);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(MakeTask, SaysWhyTaskAndDataDoNotFit) {
  EXPECT_THAT(message_of({}, "regresion", value_spec({1})), HasSubstr("unknown task 'regresion'"));
  EXPECT_THAT(message_of({}, "classification", value_spec({1})), HasSubstr("one class per sample"));
  EXPECT_THAT(message_of({}, "classification", token_spec(4, 5)), HasSubstr("one class per sample"));
  EXPECT_THAT(message_of({}, "regression", class_spec(3)), HasSubstr("numbers as targets"));
  EXPECT_THAT(message_of({}, "language_model", class_spec(3)), HasSubstr("a target token for each input token"));
  EXPECT_THAT(message_of(task_config({1, 2}), "auto", class_spec(3)), HasSubstr("2 weights given for 3 classes"));
  EXPECT_THAT(message_of(task_config({1, 2}), "auto", value_spec({2})), HasSubstr("task.class_weights"));
  EXPECT_THAT(message_of(task_config({1, 2}), "auto", token_spec(4, 2)), HasSubstr("task.class_weights"));
  EXPECT_THAT(message_of(task_config({}, 0.1), "auto", value_spec({2})), HasSubstr("task.label_smoothing"));
}

}  // namespace
}  // namespace tugline
