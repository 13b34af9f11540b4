// SPDX-License-Identifier: Apache-2.0
// Hydra's grammar on the command line: plain values, quotes, escapes, lists, maps.
#include <gtest/gtest.h>

#include "tugline/core/config/load.hpp"

namespace tugline {
namespace {

RunConfig with(const std::vector<std::string>& overrides, const std::string& yaml = "") {
  return parse_config(yaml, "a.yaml", overrides);
}

TEST(ConfigOverride, NumbersBooleansAndNull) {
  const RunConfig run = with({"optim.lr=1e-3", "data.batch=+32", "train.steps=1e6", "seed=18446744073709551615",
                              "data.augment.flip=True", "data.shuffle=FALSE", "data.header=null", "optim.momentum=.5"},
                             "data: {header: true}\n");
  EXPECT_EQ(run.optim.lr, 1e-3);
  EXPECT_EQ(run.data.batch, 32);
  EXPECT_EQ(run.train.steps, 1000000);
  EXPECT_EQ(run.seed, 18446744073709551615u);
  EXPECT_TRUE(run.data.augment.flip);
  EXPECT_FALSE(run.data.shuffle);
  EXPECT_EQ(run.data.header, std::nullopt);
  EXPECT_EQ(run.optim.momentum, 0.5);
  EXPECT_EQ(with({"data.header=false"}).data.header, false);
}

TEST(ConfigOverride, TextPlainQuotedAndEscaped) {
  const std::pair<const char*, const char*> cases[] = {
      {"name=a", "a"},           {"name=a b", "a b"},
      {"name=  a b  ", "a b"},   {"name='a b'", "a b"},
      {"name=' a '", " a "},     {"name=\"a, [b]\"", "a, [b]"},
      {"name='it\\'s'", "it's"}, {"name=\"it's\"", "it's"},
      {"name='a\\b'", "a\\b"},   {"name='a\\\\b'", "a\\\\b"},
      {"name='a\\\\'", "a\\"},   {"name='say \\\\\\'x\\\\\\''", "say \\'x\\'"},
      {"name=a\\,b", "a,b"},     {"name=\\[a\\]", "[a]"},
      {"name=a\\ ", "a "},       {"name=a\\n", "a\\n"},
      {"name=a=b", "a=b"},       {"name=a:b", "a:b"},
      {"name=1e3", "1e3"},       {"name=true", "true"},
      {"name='null'", "null"},   {"name=*.bias@x-y|z?%", "*.bias@x-y|z?%"},
      {"name=größe", "größe"},
  };
  for (const auto& [text, value] : cases) EXPECT_EQ(with({text}).name, value) << text;
}

TEST(ConfigOverride, EmptyTextIsAValue) {
  EXPECT_EQ(with({"data.label="}, "data: {label: x}\n").data.label, "");
  EXPECT_EQ(with({"data.label=''"}, "data: {label: x}\n").data.label, "");
}

TEST(ConfigOverride, ListsReplaceAndMapsMerge) {
  const std::string yaml = "model: {hidden: [1, 2, 3], options: {a: x, b: y}}\noptim: {name: adam, lr: 0.5}\n";
  const RunConfig run =
      with({"model.hidden=[ 64 , 32 ]", "model.options.b=z", "model.options.c='1, 2'", "optim={lr: 0.25}"}, yaml);
  EXPECT_EQ(run.model.hidden, (std::vector<std::int64_t>{64, 32}));
  EXPECT_EQ(run.model.options, (std::map<std::string, std::string>{{"a", "x"}, {"b", "z"}, {"c", "1, 2"}}));
  EXPECT_EQ(run.optim.name, "adam");
  EXPECT_EQ(run.optim.lr, 0.25);
  EXPECT_TRUE(with({"model.hidden=[]"}, yaml).model.hidden.empty());
}

TEST(ConfigOverride, ParameterGroups) {
  const RunConfig run = with({"optim.groups=[{match: *.bias, weight_decay: 0}, {match: 'a:b', lr_factor: 1e-3}]"});
  ASSERT_EQ(run.optim.groups.size(), 2u);
  EXPECT_EQ(run.optim.groups[0].match, "*.bias");
  EXPECT_EQ(run.optim.groups[0].weight_decay, 0.0);
  EXPECT_EQ(run.optim.groups[1].match, "a:b");
  EXPECT_EQ(run.optim.groups[1].lr_factor, 1e-3);
  EXPECT_EQ(run.optim.groups[1].weight_decay, std::nullopt);
}

TEST(ConfigOverride, TheLastOneWins) { EXPECT_EQ(with({"seed=1", "seed=2"}, "seed: 3\n").seed, 2u); }

TEST(ConfigOverride, AnOverrideRepairsTheFile) { EXPECT_EQ(with({"optim.lr=0.5"}, "optim: {lr: fast}\n").optim.lr, 0.5); }

}  // namespace
}  // namespace tugline
