// SPDX-License-Identifier: Apache-2.0
// Files on disk: defaults, extends, paths, and the way out to YAML, JSON and a digest.
#include "tugline/core/config/load.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <cmath>
#include <cstdlib>
#include <fstream>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;

class ConfigFiles : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = (fs::temp_directory_path() / "tugline-config-XXXXXX").string();
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) {
    const fs::path file = folder_ / name;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
    return file.string();
  }

  std::string message_of(const fs::path& file, const std::vector<std::string>& overrides = {}) {
    try {
      load_config(file, overrides);
    } catch (const ConfigError& error) {
      std::string text = error.what();
      const std::string here = folder_.string() + "/";
      for (auto at = text.find(here); at != text.npos; at = text.find(here)) text.erase(at, here.size());
      return text;
    }
    return "no error";
  }

  fs::path folder_;
};

TEST_F(ConfigFiles, AnEmptyFileIsAllDefaultsNamedByItsStem) {
  RunConfig expected;
  expected.name = "digits";
  for (const char* text : {"", "\n\n", "# only a comment\n", "---\n", "null\n", "{}\n", "data:\noptim:\n"}) {
    EXPECT_EQ(to_yaml(load_config(write("digits.yaml", text))), to_yaml(expected)) << text;
  }
}

TEST_F(ConfigFiles, TheFilesNameYieldsToAGivenOne) {
  EXPECT_EQ(load_config(write("a.yaml", "name: b\n")).name, "b");
  EXPECT_EQ(load_config(write("a.yaml", "name: b\n"), {"name='c d'"}).name, "c d");
}

TEST_F(ConfigFiles, ExtendsMergesDeepAndReplacesLists) {
  write("base/root.yaml",
        "seed: 1\ndata: {batch: 8, split: {test: 0.3}}\nmodel: {hidden: [1, 2], options: {a: x, b: y}}\n");
  write("base/middle.yaml", "extends: root.yaml\nseed: 2\nmodel:\n");
  const auto file = write(
      "top.yaml", "data: {split: {validation: 0.2}}\nextends: base/middle.yaml\nmodel: {hidden: [3], options: {b: z}}\n");
  const RunConfig run = load_config(file, {"data.batch=16"});
  EXPECT_EQ(run.name, "top");
  EXPECT_EQ(run.seed, 2u);
  EXPECT_EQ(run.data.batch, 16);
  EXPECT_EQ(run.data.split.test, 0.3);
  EXPECT_EQ(run.data.split.validation, 0.2);
  EXPECT_EQ(run.model.hidden, (std::vector<std::int64_t>{3}));
  EXPECT_EQ(run.model.options, (std::map<std::string, std::string>{{"a", "x"}, {"b", "z"}}));
}

TEST_F(ConfigFiles, ErrorsOfAllFilesAreToldEachAtItsPlace) {
  write("base.yaml", "optim:\n  momentun: 1\n  lr: slow\n");
  const auto file = write("top.yaml", "extends: base.yaml\ndata:\n  batch: none\n");
  EXPECT_EQ(message_of(file, {"seed=x"}),
            "top.yaml:3:10: data.batch: expected a whole number >= 1, found 'none'\n"
            "base.yaml:2:3: optim.momentun: unknown key; did you mean optim.momentum?\n"
            "base.yaml:3:7: optim.lr: expected a number > 0, found 'slow'\n"
            "command line: seed=x: expected a whole number >= 0, found 'x'");
}

TEST_F(ConfigFiles, AConflictBetweenFilesIsToldWhereItsFirstKeyStands) {
  write("base.yaml", "model: {name: transformer, heads: 3}\n");
  EXPECT_EQ(message_of(write("top.yaml", "extends: base.yaml\nmodel:\n  width: 64\n")),
            "top.yaml:3:10: model.width 64 cannot be divided by model.heads 3");
}

TEST_F(ConfigFiles, ExtendsRefusesCyclesAndWhatIsNotThere) {
  write("a.yaml", "extends: b.yaml\n");
  write("b.yaml", "seed: 1\nextends: ./sub/../a.yaml\n");
  fs::create_directory(folder_ / "sub");
  EXPECT_EQ(message_of(folder_ / "a.yaml"), "b.yaml:2:10: extends: 'a.yaml' leads back to a file that is being read");
  EXPECT_EQ(message_of(write("self.yaml", "extends: self.yaml\n")),
            "self.yaml:1:10: extends: 'self.yaml' leads back to a file that is being read");
  EXPECT_EQ(message_of(write("c.yaml", "extends: none.yaml\nsed: 1\n")),
            "c.yaml:1:10: extends: cannot read 'none.yaml': No such file or directory\n"
            "c.yaml:2:1: sed: unknown key; did you mean seed?");
  EXPECT_EQ(message_of(write("d.yaml", "extends: sub\n")), "d.yaml:1:10: extends: cannot read 'sub': it is a folder");
  EXPECT_EQ(message_of(write("e.yaml", "extends: [a.yaml, b.yaml]\n")),
            "e.yaml:1:10: extends: expected the path of another config, found a list");
  EXPECT_EQ(message_of(write("f.yaml", "extends:\n")),
            "f.yaml:1:1: extends: expected the path of another config, found nothing");
}

TEST_F(ConfigFiles, AnUnreadableFileIsOneSentence) {
  EXPECT_EQ(message_of(folder_ / "none.yaml"), "cannot read the config 'none.yaml': No such file or directory");
  EXPECT_EQ(message_of(folder_), "cannot read the config '" + folder_.string() + "': it is a folder");
}

TEST_F(ConfigFiles, ADataPathMeansWhatItMeansWhereItStands) {
  write("base/base.yaml", "data: {name: csv, path: ../data/wine.csv}\n");
  const auto top = write("top.yaml", "extends: base/base.yaml\n");
  const std::string wine = (folder_ / "data/wine.csv").string();
  const RunConfig run = load_config(top);
  EXPECT_EQ(run.data.path, wine);
  EXPECT_EQ(load_config(write("runs/1/config.yaml", to_yaml(run))).data.path, wine);
  EXPECT_EQ(load_config(top, {"data.path=/x/y.csv"}).data.path, "/x/y.csv");
  EXPECT_EQ(load_config(top, {"data.path=sub/y.csv"}).data.path, (fs::current_path() / "sub/y.csv").string());
  EXPECT_EQ(load_config(top, {"data.path=", "data.train_inputs=/x/a.csv"}).data.train_inputs, "/x/a.csv");
  EXPECT_EQ(load_config(top, {"data.name=digits", "data.path="}).data.path, "");
}

RunConfig unusual() {
  RunConfig run;
  run.name = "it's \"1\": #x\n\t\\ größe";
  run.seed = 18446744073709551615u;
  run.data.name = "csv";
  run.data.path = "/data/1e5";
  run.data.label = "null";
  run.data.split = {.by = "time", .validation = 1.0 / 3, .test = 1e-300, .time_column = "yes"};
  run.data.header = false;
  run.model.hidden = {};
  run.model.options = {{"true", "0x10"}, {"", "~"}, {"a: b", "- x"}, {"k.l", "\x01"}};
  run.task.class_weights = {0.1, 1, 1e100};
  run.optim.groups = {{.match = "*.bias", .lr_factor = 0.1 + 0.2, .weight_decay = 0.0}, {.match = "?"}};
  return run;
}

TEST(ConfigText, YamlReadsBackToTheSameValue) {
  RunConfig plain;
  plain.name = "plain";
  for (const RunConfig& run : {plain, [] {
                                 auto run = unusual();
                                 run.name = "1.5";
                                 return run;
                               }()}) {
    const RunConfig back = parse_config(to_yaml(run), "x");
    EXPECT_EQ(to_json(back), to_json(run));
    EXPECT_EQ(to_yaml(back), to_yaml(run));
    EXPECT_EQ(back.data.split.validation, run.data.split.validation);
    EXPECT_EQ(back.model.options, run.model.options);
    EXPECT_EQ(back.data.header, run.data.header);
  }
}

TEST(ConfigText, YamlKeepsEveryCharacterOfAText) {
  RunConfig run = unusual();
  run.data.label = run.name;
  run.name = "x";
  EXPECT_EQ(parse_config(to_yaml(run), "x").data.label, run.data.label);
}

TEST(ConfigText, NumbersStayAsPeopleWriteThem) {
  const std::string yaml = to_yaml(parse_config("optim: {lr: 0.1, eps: 1e-8}\n", "x"));
  EXPECT_NE(yaml.find("  lr: 0.1\n"), std::string::npos);
  EXPECT_NE(yaml.find("  eps: 1.0e-08\n"), std::string::npos);
  EXPECT_NE(yaml.find("  header: ~\n"), std::string::npos);
}

TEST(ConfigText, WhatOtherReadersCouldTakeForANumberIsInQuotes) {
  for (const char* text : {"true", "No", "1.5", "1e5", "0x10", "-3", "null"}) {
    RunConfig run;
    run.name = text;
    EXPECT_EQ(to_yaml(run).substr(0, to_yaml(run).find('\n')), std::string("name: \"") + text + "\"");
  }
}

TEST(ConfigText, JsonIsOneLineInOrderOfDeclaration) {
  RunConfig run = unusual();
  const std::string text = to_json(run);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  const auto value = boost::json::parse(text).as_object();
  EXPECT_EQ(value.at("name").as_string(), run.name);
  EXPECT_EQ(value.at("seed"), run.seed);
  EXPECT_EQ(value.at("data").at("split").at("validation"), 1.0 / 3);
  EXPECT_EQ(value.at("data").at("header"), false);
  EXPECT_TRUE(value.at("optim").at("groups").at(1).at("weight_decay").is_null());
  EXPECT_EQ(value.begin()->key(), "name");
  EXPECT_EQ((value.end() - 1)->key(), "log");
}

TEST(ConfigText, TheDigestSeesEveryChange) {
  RunConfig a, b;
  EXPECT_EQ(config_hash(a), config_hash(b));
  b.optim.lr = std::nextafter(a.optim.lr, 1.0);
  EXPECT_NE(config_hash(a), config_hash(b));
  b = a;
  b.model.options["x"] = "";
  EXPECT_NE(config_hash(a), config_hash(b));
}

}  // namespace
}  // namespace tugline
