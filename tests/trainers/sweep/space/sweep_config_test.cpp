// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/space/sweep_config.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace tugline::sweep {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSweep = R"(
sweep: {name: digits-cnn, dir: runs/elsewhere, base: base.yaml, seed: 17}
objectives:
  - {metric: val/accuracy, weight: 1.0}
  - {metric: cost/seconds, goal: min, weight: 0.0}
space:
  optim.momentum: {float: [0.5, 0.99], when: "optim.name == sgd"}
  optim.name:     {choice: [sgd, adamw]}
  optim.lr:       {float: [1e-5, 1e-1], log: true}
  "model.hidden[i]": {int: [16, 512], log: true, for: "i < $depth"}
  $depth:         {int: [1, 3]}
  data.batch:     {ordinal: [16, 32, 64, 128]}
  model.channels: {choice: [[16, 32], [32, 64]]}
  name:           {choice: ["a b", plain, 'null']}
forbid: ["data.batch * $depth > 256"]
first: [{optim.name: adamw, optim.lr: 3e-4, $depth: 2, model.hidden: [64, 32]}]
search: {method: tpe}
stop:   {rule: asha, unit: epoch, min: 1, max: 27, eta: 3}
budget: {trials: 40}
run:    {ranks_per_trial: 2, max_attempts: 5, lease: 2 min, timeout: 1.5 h}
repeat: {mode: lag, lag: 8}
)";

constexpr const char* kCanonical =
    R"({"sweep":{"name":"digits-cnn","base":"base.yaml","seed":17,"base_digest":"b16e15dc0574bfee"},)"
    R"("objectives":[{"metric":"val/accuracy","goal":"max","weight":1.0},{"metric":"cost/seconds","goal":"min","weight":0.0}],)"
    R"("space":[{"key":"optim.momentum","float":[0.5,0.99],"when":"optim.name == sgd"},{"key":"optim.name","choice":["sgd","adamw"]},)"
    R"({"key":"optim.lr","float":[1.0e-05,0.1],"log":true},{"key":"model.hidden[i]","int":[16,512],"log":true,"for":"i < $depth"},)"
    R"({"key":"$depth","int":[1,3]},{"key":"data.batch","ordinal":["16","32","64","128"]},)"
    R"({"key":"model.channels","choice":["[16,32]","[32,64]"]},{"key":"name","choice":["'a b'","plain","'null'"]}],)"
    R"("forbid":["data.batch * $depth > 256"],)"
    R"("first":[{"optim.name":"adamw","optim.lr":"0.0003","$depth":2,"model.hidden[0]":64,"model.hidden[1]":32}],)"
    R"("search":{"method":"tpe"},"stop":{"rule":"asha","min":1,"max":27,"eta":3},)"
    R"("repeat":{"lag":8}})";

std::string written_in(const std::string& folder) {
  const fs::path path = fs::path(testing::TempDir()) / folder;
  fs::create_directories(path);
  std::ofstream(path / "base.yaml") << "seed: 1\n";
  std::ofstream(path / "sweep.yaml") << kSweep;
  return path.string();
}

TEST(SweepConfig, IsReadWhole) {
  const fs::path folder = written_in("tugline_sweep_config");
  const SweepConfig sweep = load_sweep(folder / "sweep.yaml");
  EXPECT_EQ(to_json(sweep), kCanonical);
  EXPECT_EQ(sweep.dir, "runs/elsewhere");
  EXPECT_EQ(sweep.base, fs::absolute(folder / "base.yaml").lexically_normal());
  EXPECT_EQ(sweep.run.timeout_seconds, 5400);
  EXPECT_EQ(to_json(load_sweep(fs::path(written_in("tugline_sweep_config_2")) / "sweep.yaml")), kCanonical);   // the same from anywhere

  std::vector<std::string> keys;
  for (const Dimension& dimension : sweep.space.dimensions()) keys.push_back(dimension.key);
  EXPECT_EQ(keys, (std::vector<std::string>{"optim.name", "optim.momentum", "optim.lr", "$depth", "model.hidden[0]", "model.hidden[1]",
                                            "model.hidden[2]", "data.batch", "model.channels", "name"}));
  EXPECT_EQ(sweep.space.dimensions()[1].parents, std::vector<std::size_t>{0});
  EXPECT_EQ(sweep.space.dimensions()[6].parents, std::vector<std::size_t>{3});
}

TEST(SweepConfig, HasDefaults) {
  const SweepConfig sweep = parse_sweep("space: {x: {float: [0, 1]}}", "some/where/try.yaml");
  EXPECT_EQ(to_json(sweep),
            R"({"sweep":{"name":"try","base":"","seed":0},"objectives":[{"metric":"value","goal":"min","weight":1.0}],)"
            R"("space":[{"key":"x","float":[0.0,1.0]}],"forbid":[],"first":[],"search":{"method":"auto"},"stop":{"rule":"none"},)"
            R"("repeat":{"lag":null}})");
  EXPECT_EQ(sweep.dir, "runs/try");
  EXPECT_FALSE(sweep.base.has_value());
  EXPECT_EQ(parse_sweep("space: {x: {float: [0, 1]}}\nrepeat: {mode: lag}", "s").lag, 16);
}

// A program that is not ours may call its parameters anything; a name that is none of its own is a text.
TEST(SweepConfig, WithoutABaseKeysAreFree) {
  const SweepConfig sweep = parse_sweep("space:\n  block[i].kind: {choice: [conv, pool], for: i < 3}\n"
                                        "  block[i].size: {int: [1, 9], for: i < 3, when: 'block[i].kind == conv'}\n", "s.yaml");
  ASSERT_EQ(sweep.space.size(), 6u);
  const Point point = sweep.space.without_inactive({0, 1, 0, 3, 4, 5});
  EXPECT_EQ(overrides(sweep.space, point), (std::vector<std::string>{"block[0].kind=conv", "block[1].kind=pool", "block[2].kind=conv",
                                                                     "block[0].size=3", "block[2].size=5"}));
}

}  // namespace
}  // namespace tugline::sweep
