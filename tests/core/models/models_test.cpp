// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/models/module_tensors.hpp"
#include "tugline/core/models/registry.hpp"

namespace tugline {
namespace {

using ::testing::HasSubstr;

SampleSpec image_spec(std::int64_t channels, std::int64_t side, std::int64_t classes) {
  return {.input_shape = {channels, side, side}, .num_classes = classes};
}
SampleSpec token_spec(std::int64_t time, std::int64_t vocabulary) {
  return {.input_shape = {time}, .input_dtype = DType::int64, .target_shape = {time}, .num_classes = vocabulary};
}
SampleSpec value_spec(std::int64_t features, std::int64_t outputs) {
  return {.input_shape = {features}, .target_shape = {outputs}, .target_dtype = DType::float32};
}

ModelConfig named(const std::string& name) {
  ModelConfig config;
  config.name = name;
  return config;
}

std::shared_ptr<Model> build(const ModelConfig& config, const SampleSpec& spec, std::uint64_t seed = 1) {
  return ModelRegistry().build(config, spec, seed);
}

std::int64_t num_parameters(const torch::nn::Module& model) {
  std::int64_t count = 0;
  for (const auto& parameter : named_parameters_of(model)) count += parameter.tensor.numel();
  return count;
}

void expect_same_parameters(const torch::nn::Module& a, const torch::nn::Module& b) {
  const auto left = named_parameters_of(a), right = named_parameters_of(b);
  ASSERT_EQ(left.size(), right.size());
  for (std::size_t i = 0; i < left.size(); ++i) {
    EXPECT_EQ(left[i].name, right[i].name);
    EXPECT_TRUE(torch::equal(left[i].tensor, right[i].tensor)) << left[i].name;
  }
}

/// Every shipped model with data that suit it.
struct Case {
  std::string title;
  ModelConfig config;
  SampleSpec spec;
  at::Tensor input(std::int64_t batch) const {
    std::vector<std::int64_t> shape = {batch};
    shape.insert(shape.end(), spec.input_shape.begin(), spec.input_shape.end());
    return spec.input_dtype == DType::int64 ? torch::randint(spec.num_classes, shape) : torch::randn(shape);
  }
};

std::vector<Case> cases() {
  std::vector<Case> all = {{"linear", named("linear"), image_spec(1, 8, 10)},
                           {"mlp", named("mlp"), value_spec(7, 3)},
                           {"transformer", named("transformer"), token_spec(16, 11)}};
  for (const char* norm : {"group", "batch", "none"}) {
    all.push_back({std::string("convnet_") + norm, named("convnet"), image_spec(3, 9, 5)});
    all.back().config.norm = norm;
  }
  all.push_back({"transformer_untied", named("transformer"), token_spec(8, 11)});
  all.back().config.tied = false;
  return all;
}

TEST(Models, ForwardHasTheOutputShapeOfTheData) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.title);
    const at::Tensor output = build(c.config, c.spec)->forward(c.input(4));
    const std::vector<std::int64_t> expected = c.title == "linear"               ? std::vector<std::int64_t>{4, 10}
                                               : c.title == "mlp"                ? std::vector<std::int64_t>{4, 3}
                                               : c.title == "transformer"        ? std::vector<std::int64_t>{4, 16, 11}
                                               : c.title == "transformer_untied" ? std::vector<std::int64_t>{4, 8, 11}
                                                                                 : std::vector<std::int64_t>{4, 5};
    EXPECT_EQ(output.sizes().vec(), expected);
  }
}

TEST(Models, EveryParameterGetsAGradient) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.title);
    const auto model = build(c.config, c.spec);
    model->forward(c.input(4)).square().sum().backward();
    for (const auto& parameter : named_parameters_of(*model)) {
      ASSERT_TRUE(parameter.tensor.grad().defined()) << parameter.name;
      EXPECT_FALSE(parameter.tensor.grad().is_sparse()) << parameter.name;
    }
  }
}

TEST(Models, ParameterCountsAreTheClosedForms) {
  EXPECT_EQ(num_parameters(*build(named("linear"), image_spec(1, 8, 10))), 64 * 10 + 10);

  ModelConfig mlp = named("mlp");
  mlp.hidden = {32, 16};
  EXPECT_EQ(num_parameters(*build(mlp, value_spec(7, 3))), 7 * 32 + 32 + 32 * 16 + 16 + 16 * 3 + 3);
  mlp.hidden = {};
  EXPECT_EQ(num_parameters(*build(mlp, value_spec(7, 3))), 7 * 3 + 3);

  ModelConfig convnet = named("convnet");  // channels 32, 64; 8x8 -> 2x2
  const std::int64_t weights = 32 * 1 * 9 + 64 * 32 * 9, head = 64 * 2 * 2 * 10 + 10;
  for (const char* norm : {"group", "batch"}) {
    convnet.norm = norm;
    EXPECT_EQ(num_parameters(*build(convnet, image_spec(1, 8, 10))), weights + 2 * (32 + 64) + head);
  }
  convnet.norm = "none";
  EXPECT_EQ(num_parameters(*build(convnet, image_spec(1, 8, 10))), weights + (32 + 64) + head);

  ModelConfig transformer = named("transformer");
  transformer.layers = 3;
  transformer.width = 32;
  const std::int64_t w = 32, vocabulary = 11, context = 16;
  const std::int64_t block = 2 * 2 * w + (3 * w * w + 3 * w) + (w * w + w) + (4 * w * w + 4 * w) + (4 * w * w + w);
  const std::int64_t tied = vocabulary * w + context * w + 3 * block + 2 * w;
  EXPECT_EQ(num_parameters(*build(transformer, token_spec(context, vocabulary))), tied);
  transformer.tied = false;
  EXPECT_EQ(num_parameters(*build(transformer, token_spec(context, vocabulary))), tied + vocabulary * w);
}

TEST(Models, WeightsDependOnTheSeedAlone) {
  const int threads = at::get_num_threads();
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.title);
    torch::manual_seed(5);
    at::set_num_threads(1);
    const auto first = build(c.config, c.spec, 42);
    torch::rand({1000});
    at::set_num_threads(2);
    const auto second = build(c.config, c.spec, 42);
    expect_same_parameters(*first, *second);
    const auto other = build(c.config, c.spec, 43);
    EXPECT_FALSE(torch::equal(first->parameters()[0], other->parameters()[0]));
  }
  at::set_num_threads(threads);
}

TEST(Models, BuildingLeavesTheRandomStreamWhereItWas) {
  torch::manual_seed(5);
  const at::Tensor expected = torch::rand({4});
  torch::manual_seed(5);
  build(named("mlp"), value_spec(7, 3), 42);
  EXPECT_TRUE(torch::equal(torch::rand({4}), expected));

  ModelRegistry registry;
  registry.add("broken", "throws", [](const ModelConfig&, const SampleSpec&) -> std::shared_ptr<Model> {
    torch::rand({3});
    throw ConfigError("no");
  });
  torch::manual_seed(5);
  EXPECT_THROW(registry.build(named("broken"), value_spec(7, 3), 42), ConfigError);
  EXPECT_TRUE(torch::equal(torch::rand({4}), expected));
}

TEST(Models, DropoutActsInTrainingOnly) {
  for (Case c : cases()) {
    if (c.title == "linear") continue;
    SCOPED_TRACE(c.title);
    c.config.dropout = 0.5;
    const auto model = build(c.config, c.spec);
    const at::Tensor input = c.input(4);
    EXPECT_FALSE(torch::equal(model->forward(input), model->forward(input)));
    model->eval();
    const at::Tensor output = model->forward(input);
    EXPECT_TRUE(torch::equal(output, model->forward(input)));
    c.config.dropout = 0;
    const auto without = build(c.config, c.spec);
    without->eval();
    EXPECT_EQ(num_parameters(*without), num_parameters(*model));
  }
}

TEST(Models, ConvnetTakesChannelsLastWeightsAndInputs) {
  for (const char* norm : {"group", "batch", "none"}) {
    ModelConfig config = named("convnet");
    config.norm = norm;
    const auto plain = build(config, image_spec(3, 8, 5)), last = build(config, image_spec(3, 8, 5));
    for (auto& p : last->parameters()) {
      if (p.dim() == 4) p.set_data(p.contiguous(at::MemoryFormat::ChannelsLast));
    }
    const at::Tensor input = torch::randn({4, 3, 8, 8});
    EXPECT_TRUE(torch::allclose(plain->forward(input), last->forward(input.contiguous(at::MemoryFormat::ChannelsLast)),
                                1e-4, 1e-5));
  }
}

TEST(Models, ConvnetReadsImagesWithoutAChannelDimension) {
  const SampleSpec flat{.input_shape = {8, 8}, .num_classes = 10};
  const at::Tensor input = torch::randn({4, 8, 8});
  EXPECT_TRUE(torch::equal(build(named("convnet"), flat)->forward(input),
                           build(named("convnet"), image_spec(1, 8, 10))->forward(input.unsqueeze(1))));
}

TEST(Transformer, NoTokenSeesALaterOne) {
  const auto model = build(named("transformer"), token_spec(16, 11));
  const at::Tensor input = torch::randint(11, {2, 16});
  at::Tensor changed = input.clone();
  changed.select(1, 9).add_(1).remainder_(11);
  const at::Tensor before = model->forward(input), after = model->forward(changed);
  EXPECT_TRUE(torch::allclose(before.narrow(1, 0, 9), after.narrow(1, 0, 9), 0, 1e-6));
  EXPECT_FALSE(torch::allclose(before.select(1, 9), after.select(1, 9), 0, 1e-4));
  EXPECT_FALSE(torch::allclose(before.select(1, 15), after.select(1, 15), 0, 1e-4));
}

TEST(Transformer, ShorterInputsWorkAndLongerOnesAreRefused) {
  const auto model = build(named("transformer"), token_spec(16, 11));
  EXPECT_EQ(model->forward(torch::randint(11, {2, 5})).size(1), 5);
  EXPECT_THROW(model->forward(torch::randint(11, {2, 17})), Error);
}

TEST(Transformer, TiedGradientIsTheSumOfBothUses) {
  ModelConfig config = named("transformer");
  config.layers = 2;
  config.width = 32;
  const auto tied = build(config, token_spec(16, 11));
  config.tied = false;
  const auto untied = build(config, token_spec(16, 11));
  tied->to(at::kDouble);
  untied->to(at::kDouble);
  {
    const at::NoGradGuard no_grad;
    const auto source = tied->named_parameters();
    for (auto& item : untied->named_parameters()) {
      item.value().copy_(item.key() == "output.weight" ? source["tokens.weight"] : source[item.key()]);
    }
  }
  const at::Tensor input = torch::randint(11, {3, 16});
  tied->forward(input).square().sum().backward();
  untied->forward(input).square().sum().backward();
  const auto both = untied->named_parameters();
  EXPECT_TRUE(torch::allclose(tied->named_parameters()["tokens.weight"].grad(),
                              both["tokens.weight"].grad() + both["output.weight"].grad(), 1e-10, 1e-12));
}

TEST(ModuleTensors, KeepRegistrationOrderAndListATiedTensorOnce) {
  struct Twice : torch::nn::Module {
    Twice() {
      const at::Tensor shared = torch::ones({2});
      register_parameter("z", shared);
      register_parameter("a", torch::zeros({3}));
      register_parameter("again", shared);
      const auto inner = std::make_shared<torch::nn::LinearImpl>(torch::nn::LinearOptions(2, 2).bias(false));
      register_module("inner", inner);
      register_module("twin", inner);
      register_buffer("mean", torch::zeros({1}));
    }
  };
  const Twice module;
  std::vector<std::string> names;
  for (const auto& parameter : named_parameters_of(module)) names.push_back(parameter.name);
  EXPECT_THAT(names, ::testing::ElementsAre("z", "a", "inner.weight"));
  ASSERT_EQ(named_buffers_of(module).size(), 1U);
  EXPECT_EQ(named_buffers_of(module)[0].name, "mean");
}

TEST(Registry, KnowsTheShippedModelsAndTakesOthers) {
  ModelRegistry registry;
  ASSERT_EQ(registry.entries().size(), 4U);
  struct Mine : Model {
    explicit Mine(double scale) : scale_(register_parameter("scale", torch::full({1}, scale))) {}
    at::Tensor forward(const at::Tensor& input) override { return input * scale_; }
    at::Tensor scale_;
  };
  registry.add("mine", "mine alone", [](const ModelConfig& config, const SampleSpec&) {
    return std::make_shared<Mine>(std::stod(config.options.at("scale")));
  });
  ModelConfig config = named("mine");
  config.options["scale"] = "3";
  EXPECT_EQ(registry.build(config, value_spec(1, 1), 0)->forward(torch::ones({1})).item<float>(), 3);
  EXPECT_THROW(registry.add("mlp", "", {}), Error);
}

std::string message_of(const ModelConfig& config, const SampleSpec& spec) {
  try {
    build(config, spec);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Registry, NamesTheNearestModel) {
  EXPECT_THAT(message_of(named("convet"), image_spec(1, 8, 10)),
              HasSubstr("unknown model 'convet'; did you mean convnet?"));
  EXPECT_THAT(message_of(named("transfromer"), image_spec(1, 8, 10)), HasSubstr("did you mean transformer?"));
  EXPECT_THAT(message_of(named(""), image_spec(1, 8, 10)), HasSubstr("known: linear, mlp, convnet, transformer"));
}

TEST(Registry, SaysWhyModelAndDataDoNotFit) {
  EXPECT_THAT(message_of(named("convnet"), value_spec(7, 3)), HasSubstr("'convnet' needs images"));
  EXPECT_THAT(message_of(named("convnet"), token_spec(8, 11)), HasSubstr("the data are tokens"));
  EXPECT_THAT(message_of(named("mlp"), token_spec(8, 11)), HasSubstr("the data are tokens; use transformer"));
  EXPECT_THAT(message_of(named("transformer"), image_spec(1, 8, 10)), HasSubstr("needs data of tokens"));
  ModelConfig config = named("convnet");
  config.channels = {8, 8, 8, 8};
  EXPECT_THAT(message_of(config, image_spec(1, 8, 10)), HasSubstr("model.channels: 4 stages halve a 8x8 image to nothing"));
  config = named("convnet");
  config.norm = "layer";
  EXPECT_THAT(message_of(config, image_spec(1, 8, 10)), HasSubstr("model.norm: unknown norm 'layer'"));
  config = named("mlp");
  config.activation = "swish";
  EXPECT_THAT(message_of(config, value_spec(7, 3)), HasSubstr("model.activation: unknown activation 'swish'"));
  config = named("transformer");
  config.heads = 3;
  EXPECT_THAT(message_of(config, token_spec(8, 11)), HasSubstr("model.width: 128 is not a multiple of model.heads: 3"));
}

}  // namespace
}  // namespace tugline
