// SPDX-License-Identifier: Apache-2.0
// Damaged YAML and overrides: a config that survives its own YAML, or a ConfigError that names the place.
#include <fstream>
#include <sstream>

#include "tugline/core/config/load.hpp"
#include "tugline/tests/fuzz/mutator.hpp"

namespace tugline {
namespace {

const std::vector<std::string> kYamlWords = {"\n",
                                             ": ",
                                             "- ",
                                             "{",
                                             "}",
                                             "[",
                                             "]",
                                             ",",
                                             "&a ",
                                             "*a",
                                             "<<: ",
                                             "!!str ",
                                             "|\n",
                                             ">-\n",
                                             "'",
                                             "\"",
                                             "#",
                                             "---\n",
                                             "...\n",
                                             "%YAML 1.2\n",
                                             "? ",
                                             "\t",
                                             "\r\n",
                                             "  ",
                                             std::string(1, '\0'),
                                             "\xef\xbb\xbf",
                                             "\xff\xfe",
                                             "\xc3",
                                             "null",
                                             "~",
                                             "true",
                                             "nan",
                                             ".inf",
                                             "-1",
                                             "1e999",
                                             "0x10",
                                             "99999999999999999999",
                                             "1_000",
                                             "data",
                                             "batch",
                                             "optim",
                                             "lr",
                                             "extends: ",
                                             "extends: none.yaml\n",
                                             "seed: 1\n",
                                             "model: {hidden: [1, 2]}\n",
                                             "groups: [{match: '*'}]\n",
                                             "options: {a: b}\n"};

const std::vector<std::string> kOverrides = {"optim.lr=0.1",
                                             "model.hidden=[64, 64]",
                                             "name='a b'",
                                             "model.options={a:b,c:'d'}",
                                             "optim.groups=[{match:'*.bias',lr_factor:2}]",
                                             "train.early_stop.metric=\"validation.loss\"",
                                             "data.header=null",
                                             "seed=18446744073709551615",
                                             R"(name=a\,b\\)"};
const std::vector<std::string> kOverrideWords = {"=",         ".",
                                                 ",",         "[",
                                                 "]",         "{",
                                                 "}",         ":",
                                                 "'",         "\"",
                                                 "\\",        " ",
                                                 "\t",        "+",
                                                 "~",         "null",
                                                 "true",      "nan",
                                                 "inf",       "-0",
                                                 "1e-400",    "[[[[[[[[",
                                                 "{a:{a:{a:", "\xc3\xa4",
                                                 "\xff",      std::string(1, '\0')};

std::vector<std::string> shipped_configs() {
  std::vector<std::string> texts;
  for (const auto& entry : std::filesystem::directory_iterator(TUGLINE_SHIPPED_CONFIGS)) {
    if (entry.path().extension() != ".yaml") continue;
    std::ostringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    texts.push_back(text.str());
  }
  std::ranges::sort(texts);
  return texts;
}

void expect_round_trip(const RunConfig& config, const std::string& input) {
  const std::string yaml = to_yaml(config);
  EXPECT_EQ(to_yaml(parse_config(yaml, "again.yaml")), yaml) << "input: " << escaped(input);
}

TEST(ConfigFuzz, DamagedFiles) {
  const std::vector<std::string> texts = shipped_configs();
  ASSERT_GE(texts.size(), 3u);
  Mutator mutator(1, kYamlWords);
  int worked = 0;
  constexpr int kInputs = 2500;
  for (int i = 0; i < kInputs; ++i) {
    const std::string yaml = mutator.damaged(mutator.pick(texts));
    worked += works_or_says_why<ConfigError>(yaml, [&] { expect_round_trip(parse_config(yaml, "fuzz.yaml"), yaml); });
  }
  // Damage that always, or never, shows would test little.
  EXPECT_GT(worked, kInputs / 20);
  EXPECT_LT(worked, kInputs * 19 / 20);
}

TEST(ConfigFuzz, WordsOfYamlInAnyOrder) {
  Mutator mutator(2, kYamlWords);
  for (int i = 0; i < 2500; ++i) {
    std::string yaml;
    for (std::size_t words = 1 + mutator.below(12); words > 0; --words) yaml += mutator.pick(kYamlWords);
    works_or_says_why<ConfigError>(yaml, [&] { expect_round_trip(parse_config(yaml, "fuzz.yaml"), yaml); });
  }
}

TEST(ConfigFuzz, DamagedOverrides) {
  Mutator mutator(3, kOverrideWords);
  int worked = 0;
  constexpr int kInputs = 4000;
  for (int i = 0; i < kInputs; ++i) {
    const std::string text = mutator.damaged(mutator.pick(kOverrides));
    worked += works_or_says_why<ConfigError>(text, [&] { expect_round_trip(parse_config("", "fuzz.yaml", {text}), text); });
  }
  EXPECT_GT(worked, kInputs / 20);
  EXPECT_LT(worked, kInputs * 19 / 20);
}

// What grows with its nesting must not grow with the stack.
TEST(ConfigFuzz, DeepAndLong) {
  const auto repeated = [](const std::string& piece, int times) {
    std::string text;
    for (int i = 0; i < times; ++i) text += piece;
    return text;
  };
  for (const std::string piece : {"[", "{a: ", "- ", "? ", "!", "&a ", "*", "'", "a: {", "%", "\n", " ", "|", "x"}) {
    const std::string yaml = repeated(piece, 20000);
    works_or_says_why<ConfigError>(yaml, [&] { parse_config(yaml, "fuzz.yaml"); });
  }
  for (const std::string piece : {"[", "{a:", "'", "\\", "a.", "a", " "}) {
    for (const std::string& text : {"seed=" + repeated(piece, 20000), repeated(piece, 20000) + "a=1"}) {
      works_or_says_why<ConfigError>(text, [&] { parse_config("", "fuzz.yaml", {text}); });
    }
  }
}

}  // namespace
}  // namespace tugline
