// SPDX-License-Identifier: Apache-2.0
// What a user reads when a config is wrong: every message in full, with its place.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tugline/core/config/load.hpp"
#include "tugline/core/error.hpp"

namespace tugline {
namespace {

std::string message_of(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  try {
    parse_config(yaml, "configs/a.yaml", overrides);
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::config);
    return error.what();
  }
  return "no error";
}

struct WrongYaml {
  const char* yaml;
  const char* message;  // after "configs/a.yaml:"
};

const WrongYaml kWrongYaml[] = {
    // keys
    {"optim:\n  momentun: 0.9\n", "2:3: optim.momentun: unknown key; did you mean optim.momentum?"},
    {"lr: 0.1\n", "1:1: lr: unknown key; did you mean optim.lr?"},
    {"train:\n  lr: 0.1\n", "2:3: train.lr: unknown key; did you mean optim.lr?"},
    {"batch: 8\n", "1:1: batch: unknown key; did you mean data.batch?"},
    {"optimizer:\n  name: sgd\n  lr: 1\n", "1:1: optimizer: unknown key; did you mean optim?"},
    {"train: {epoch: 3}\n", "1:9: train.epoch: unknown key; did you mean train.epochs?"},
    {"train:\n  early_stop:\n    patiance: 3\n",
     "3:5: train.early_stop.patiance: unknown key; did you mean train.early_stop.patience?"},
    {"zebra: 1\n", "1:1: zebra: unknown key"},
    {"optim.lr: 0.1\n", "1:1: optim.lr: a key with dots is for the command line; in a file write lr: below optim:"},
    {"optim:\n  lr: 1\n  name: sgd\n  lr: 2\n", "4:3: optim.lr: written twice; first in line 2"},
    {"seed: 1\ndata:\nseed: 2\n", "3:1: seed: written twice; first in line 1"},
    {"[a, b]: 1\n", "1:1: a key must be plain text"},
    // types
    {"optim:\n  lr: fast\n", "2:7: optim.lr: expected a number > 0, found 'fast'"},
    {"optim:\n  lr: 0.1x\n", "2:7: optim.lr: expected a number > 0, found '0.1x'"},
    {"optim:\n  lr: '0.1'\n", "2:7: optim.lr: expected a number > 0, found the quoted text '0.1'"},
    {"optim:\n  lr:\n  name: sgd\n", "2:3: optim.lr: expected a number > 0, found nothing"},
    {"optim:\n  lr: .inf\n", "2:7: optim.lr: expected a number > 0, found '.inf'"},
    {"optim:\n  lr: inf\n", "2:7: optim.lr: expected a number > 0, found 'inf'"},
    {"optim:\n  lr: nan\n", "2:7: optim.lr: expected a number > 0, found 'nan'"},
    {"optim:\n  lr: 1e400\n", "2:7: optim.lr: expected a number > 0, found '1e400'"},
    {"optim:\n  lr: [0.1]\n", "2:7: optim.lr: expected a number > 0, found a list"},
    {"optim:\n  lr: {peak: 1}\n", "2:7: optim.lr: expected a number > 0, found a map of keys"},
    {"train:\n  steps: 1.5\n", "2:10: train.steps: expected a whole number >= 0, found '1.5'"},
    {"train:\n  steps: 9223372036854775808\n",
     "2:10: train.steps: expected a whole number >= 0, found '9223372036854775808'"},
    {"seed: -1\n", "1:7: seed: expected a whole number >= 0, found '-1'"},
    {"seed: 18446744073709551616\n", "1:7: seed: expected a whole number >= 0, found '18446744073709551616'"},
    {"data:\n  shuffle: yes\n", "2:12: data.shuffle: expected true or false, found 'yes'"},
    {"data:\n  shuffle: 'true'\n", "2:12: data.shuffle: expected true or false, found the quoted text 'true'"},
    {"data:\n  header: maybe\n", "2:11: data.header: expected true or false, or null, found 'maybe'"},
    {"data:\n  path: [a, b]\n", "2:9: data.path: expected text, found a list"},
    {"optim: sgd\n", "1:8: optim: expected a section of keys below it, found 'sgd'"},
    {"optim: [1, 2]\n", "1:8: optim: expected a section of keys below it, found a list"},
    {"model:\n  hidden: 64\n", "2:11: model.hidden: expected a list of whole numbers >= 1, found '64'"},
    {"model:\n  hidden: [64, big]\n", "2:16: model.hidden[1]: expected a whole number >= 1, found 'big'"},
    {"model:\n  hidden:\n    - 64\n    - 0\n", "4:7: model.hidden[1]: expected a whole number >= 1, found '0'"},
    {"model:\n  options: 5\n", "2:12: model.options: expected a section of names with text, found '5'"},
    {"model:\n  options: {depth: [1]}\n", "2:20: model.options.depth: expected text, found a list"},
    {"optim:\n  groups: [x]\n", "2:12: optim.groups[0]: expected a section of keys below it, found 'x'"},
    {"optim:\n  groups: {match: x}\n", "2:11: optim.groups: expected a list of sections, found a map of keys"},
    {"optim:\n  groups:\n    - match: x\n    - macth: y\n      match: z\n",
     "4:7: optim.groups[1].macth: unknown key; did you mean optim.groups[].match?"},
    {"optim:\n  groups:\n    - match: x\n      weight_decay: -1\n",
     "4:21: optim.groups[0].weight_decay: expected a number >= 0, or null, found '-1'"},
    // ranges and choices
    {"data:\n  batch: 0\n", "2:10: data.batch: expected a whole number >= 1, found '0'"},
    {"optim:\n  momentum: 1\n", "2:13: optim.momentum: expected a number >= 0 and < 1, found '1'"},
    {"optim:\n  lr: 0\n", "2:7: optim.lr: expected a number > 0, found '0'"},
    {"data:\n  threads: 1000\n", "2:12: data.threads: expected a whole number >= 0 and <= 256, found '1000'"},
    {"data:\n  threads: 4294967297\n", "2:12: data.threads: expected a whole number >= 0 and <= 256, found '4294967297'"},
    {"overfit:\n  target: 1.5\n", "2:11: overfit.target: expected a number >= 0 and <= 1, found '1.5'"},
    {"optim:\n  name: sdg\n", "2:9: optim.name: expected one of sgd, adam, adamw, adagrad, found 'sdg'; did you mean sgd?"},
    {"optim:\n  name: lamb\n", "2:9: optim.name: expected one of sgd, adam, adamw, adagrad, found 'lamb'"},
    {"parallel:\n  strategy: asynch\n", "2:13: parallel.strategy: expected one of sync, local, async, found 'asynch'; did you mean async?"},
    {"parallel:\n  strategy: async\n  balance:\n    mode: adaptive\n",
     "2:13: parallel.strategy async hands pieces to whoever is free: parallel.balance.mode adaptive has no shares to set"},
    {"parallel:\n  strategy: local\n  shards: 4\n",
     "2:13: parallel.shards adds up gradients, and parallel.strategy local has none to add up"},
    {"train: {stop_signals: [SEGV]}\n",
     "1:24: train.stop_signals[0]: expected one of USR2, XCPU, ALRM, HUP, QUIT, PWR, found 'SEGV'"},
    // the YAML itself
    {"data:\n\tname: digits\n", "2:6: not valid YAML: indented with a tab; YAML wants spaces"},
    {"data:\n  name: digits\n\tbatch: 3\n", "3:1: not valid YAML: indented with a tab; YAML wants spaces"},
    {"model:\n  hidden: [1, 2\n", "3:1: not valid YAML: end of sequence flow not found"},
    {"a: b: c\n", "1:5: not valid YAML: illegal map value"},
    {"- data\n- optim\n", "1:1: expected keys such as data: or optim:, found a list"},
    {"digits\n", "1:1: expected keys such as data: or optim:, found 'digits'"},
    // yaml-cpp's own LoadAll never returns on this one
    {"[-]\n,data: 1\n", "2:1: the document has ended, and a config is one document"},
    {"seed: 1\n}\n", "2:1: not valid YAML: illegal flow end"},
    {"seed: 1\n---\nseed: 2\n", "3:1: the document has ended, and a config is one document"},
    // values that do not go together
    {"data:\n  split:\n    validation: 0.5\n    test: 0.5\n",
     "3:17: data.split.validation 0.5 and data.split.test 0.5 leave nothing to train on: their sum must be < 1"},
    {"data:\n  split:\n    by: time\n", "3:9: data.split.by time needs the rows of data.name csv, found digits"},
    {"data:\n  name: csv\n  path: x.csv\n  split: {by: time}\n", "4:15: data.split.by time needs data.split.time_column"},
    {"data:\n  name: csv\n", "2:9: data.name csv needs data.path"},
    {"data:\n  name: hdf5\n  path: x.h5\n",
     "2:9: data.name hdf5 needs data.train_inputs and data.train_targets, paths of datasets inside the file"},
    {"data: {name: synthetic, target: class}\ntask: {name: regression}\n",
     "2:14: task.name regression needs data.target value, found class"},
    {"model: {name: transformer, width: 100, heads: 3}\n", "1:35: model.width 100 cannot be divided by model.heads 3"},
    {"task: {class_weights: [0, 0]}\n", "1:23: task.class_weights are all 0: one at least must be larger"},
    {"optim: {lr_scale: linear}\n",
     "1:19: optim.lr_scale linear needs optim.base_batch > 0, the batch that optim.lr was tuned for"},
    {"optim: {nesterov: true, momentum: 0}\n",
     "1:19: optim.nesterov needs optim.momentum > 0 and optim.dampening 0, found 0 and 0"},
    {"parallel: {shards: 6}\n", "1:20: parallel.shards 6 is no power of two"},
    {"parallel: {shards: 4}\ntrain: {micro_batch: 2}\n",
     "1:20: parallel.shards says how many samples go at a time: train.micro_batch must be 0"},
    {"parallel: {balance: {mode: fixed}}\n",
     "1:28: parallel.balance.mode fixed needs either weights, one per rank, or host_weights"},
    {"parallel: {balance: {weights: [1, 2]}}\n", "1:31: weights are for parallel.balance.mode fixed, and it is auto"},
    {"parallel: {balance: {mode: fixed, host_weights: {a: fast}}}\n",
     "1:49: parallel.balance.host_weights: 'fast' for a is no weight; use a number >= 0"},
    {"parallel: {balance: {mode: replay}}\n",
     "1:28: parallel.balance.mode replay and parallel.balance.replay, the folder of a run, go together"},
    {"parallel: {balance: {unit: micro_batch}}\n", "1:28: parallel.balance.unit micro_batch needs train.micro_batch"},
    {"parallel: {balance: {mode: adaptive}, shards: 4}\n",
     "1:28: parallel.shards needs equal shares: parallel.balance.mode cannot be adaptive"},
    {"train: {precision: fp16}\nparallel: {wire: bfloat16}\n",
     "2:18: train.precision fp16 changes the scale of gradients, and parallel.wire bfloat16 keeps what rounding left of them: use bf16"},
    {"parallel: {balance: {mode: off, max_share: 8}}\n",
     "1:28: min_share and max_share are for parallel.balance.mode adaptive, and it is off"},
    {"parallel: {balance: {min_share: 9, max_share: 8}}\n",
     "1:33: parallel.balance.max_share 8 is less than min_share 9"},
    {"parallel: {wire: bfloat16, all_reduce: backend}\n",
     "1:18: parallel.wire bfloat16 goes by the ring: set parallel.all_reduce to auto or ring"},
    {"optim: {schedule: {name: wsd}}\n", "1:26: optim.schedule.name wsd needs optim.schedule.decay > 0"},
    {"optim: {schedule: {name: step}}\n", "1:26: optim.schedule.name step needs optim.schedule.every > 0"},
    {"optim: {groups: [{lr_factor: 2}]}\n", "1:17: optim.groups[0] needs match, a pattern such as *.bias"},
    {"train: {eval_unit: step, eval_every: 0.5}\n",
     "1:38: train.eval_every 0.5 must be a whole number when train.eval_unit is step"},
    {"train: {cuda_graphs: true, device: cuda}\nmodel: {batch_norm: sync}\n",
     "1:22: train.cuda_graphs records passes, and model.batch_norm sync waits for other ranks within one: use local, or model.norm group"},
    {"train: {cuda_graphs: true, device: cuda}\nparallel: {balance: {mode: adaptive}}\n",
     "1:22: train.cuda_graphs records each shape of batch, and parallel.balance.mode adaptive changes them by times that recording is part of: use off, fixed or main_light"},
    {"train: {tf32: true}\n", "1:15: train.tf32 is for GPUs: use train.device cuda, or leave it off"},
    {"train: {tf32: true, device: cuda, precision: float64}\n",
     "1:15: train.tf32 rounds products of float32, and train.precision is float64: use float32, or leave it off"},
    {"train: {device: cuda, read_every: 2}\nparallel: {strategy: async}\n", "1:35: train.read_every 2: parallel.strategy async says in each step what its loss is; use 1"},
    {"train: {device: cuda, read_every: 4, nonfinite: retry}\n",
     "1:35: train.read_every 4: train.nonfinite retry computes a step again before the next one; use 1"},
    {"train: {device: cuda, read_every: 4}\nparallel: {strategy: local}\n",
     "1:35: train.read_every 4: parallel.strategy local says in each step what its loss is; use 1"},
    {"train: {device: cuda, read_every: 4, precision: fp16}\n",
     "1:35: train.read_every 4: train.precision fp16 computes a step that overflows again before the next one; use 1"},
    {"train: {device: cuda, read_every: 4, spike_factor: 10}\n",
     "1:35: train.read_every 4: train.spike_factor judges the norm of a gradient before it moves anything; use 1"},
    {"train: {device: cuda, read_every: 4}\nparallel: {backend: mpi}\n",
     "1:35: train.read_every 4: parallel.backend mpi makes the host wait in each step; use 1"},
    {"train: {device: cuda, read_every: 4}\nparallel: {balance: {mode: replay, replay: runs/a}}\n",
     "1:35: train.read_every 4: parallel.balance.mode replay changes shares after given steps; use 1"},
    {"train: {device: cuda, read_every: 4}\noptim: {clip_norm: 1, clip_value: 1}\n",
     "1:35: train.read_every 4: optim.clip_value after optim.clip_norm needs the norm on the host; use 1"},
    {"train: {early_stop: {metric: accuracy}}\n",
     "1:30: train.early_stop.metric: expected split.metric with split train, validation or test, such as validation.loss, "
     "found 'accuracy'"},
    {"checkpoint: {best_metric: best.loss}\n",
     "1:27: checkpoint.best_metric: expected split.metric with split train, validation or test, such as validation.loss, "
     "or "
     "auto, found 'best.loss'"},
    {"overfit: {steps: 10, hold: 5, eval_every: 5}\n",
     "1:28: overfit.steps 10 leaves no time for overfit.hold 5 evaluations every 5 steps"},
    {"train: {spike_factor: 1}\n",
     "1:23: train.spike_factor 1 would call every other step a spike: use more than 1, or 0 to look for none"},
    {"train: {spike_factor: 20}\nparallel: {strategy: async}\n",
     "2:22: parallel.strategy async applies gradients of pieces as they come, and has none of a whole step to judge: train.spike_factor must be 0"},
    {"name: a/b\n", "1:7: name becomes a folder, so it cannot be 'a/b'"},
};

TEST(ConfigErrors, EveryWrongFileHasItsMessage) {
  for (const WrongYaml& wrong : kWrongYaml) {
    EXPECT_EQ(message_of(wrong.yaml), std::string("configs/a.yaml:") + wrong.message) << wrong.yaml;
  }
}

struct WrongOverride {
  const char* text;
  const char* message;  // after "command line: TEXT: "
};

const WrongOverride kWrongOverrides[] = {
    {"optim.lr=fast", "expected a number > 0, found 'fast'"},
    {"optim.lr=", "expected a number > 0, found ''"},
    {"optim.lr='0.1'", "expected a number > 0, found the quoted text '0.1'"},
    {"optim.lr=null", "expected a number > 0, found nothing"},
    {"optim.lrr=1", "unknown key; did you mean optim.lr?"},
    {"lr=1", "unknown key; did you mean optim.lr?"},
    {"optim.lr.x=1", "optim.lr: expected a number > 0, found a map of keys"},
    {"optim={lr: fast}", "optim.lr: expected a number > 0, found 'fast'"},
    {"optim=adam", "expected a section of keys below it, found 'adam'"},
    {"model.hidden=64", "expected a list of whole numbers >= 1, found '64'"},
    {"model.hidden=[64,x]", "model.hidden[1]: expected a whole number >= 1, found 'x'"},
    {"model.hidden=[64,64", "expected ',' or ']' in the list"},
    {"model.hidden=[64,]", "a value is missing; write '' for empty text"},
    {"model.hidden=[64]]", "unexpected ']' after the value"},
    {"model.options={a:1,a:2}", "'a' is written twice"},
    {"model.options={a}", "expected ':' after 'a'"},
    {"model.options={a:1", "expected ',' or '}' in the map"},
    {"optim.lr=0.1,0.2", "a list of values needs brackets, such as key=[a,b]"},
    {"optim.lr=choice(1,2)", "put the value in quotes, or a backslash before ("},
    {"data.path=${HOME}/x", "put the value in quotes, or a backslash before {"},
    {"name='a", "the closing ' is missing"},
    {"name='a\\'", "the closing ' is missing"},
    {"name='a' b", "unexpected 'b' after the value"},
    {"name=it's", "put the value in quotes, or a backslash before '"},
    {"+optim.x=1", "keys cannot be added with + or removed with ~; write key=value"},
    {"~optim.lr=1", "keys cannot be added with + or removed with ~; write key=value"},
    {"extends=b.yaml", "extends can only stand in a file"},
    {"name=gr\xf6\xdf", "the text is not valid UTF-8"},
    {"seed", "expected key=value, such as optim.lr=0.1"},
    {"=1", "'' is not a key; write key=value, such as optim.lr=0.1"},
    {"optim..lr=1", "'optim..lr' is not a key; write key=value, such as optim.lr=0.1"},
    {"optim.lr =1", "'optim.lr ' is not a key; write key=value, such as optim.lr=0.1"},
    {"optim.lr_scale=sqrt", "optim.lr_scale sqrt needs optim.base_batch > 0, the batch that optim.lr was tuned for"},
};

TEST(ConfigErrors, EveryWrongOverrideHasItsMessage) {
  for (const WrongOverride& wrong : kWrongOverrides) {
    EXPECT_EQ(message_of("seed: 1\n", {wrong.text}), std::string("command line: ") + wrong.text + ": " + wrong.message);
  }
}

TEST(ConfigErrors, AllAreToldAtOnceInTheOrderOfTheFile) {
  EXPECT_EQ(
      message_of("optim:\n  momentun: 0.9\n  lr: fast\ndata:\n  batch: 0\n  split: {validation: 0.9, test: 0.2}\nsed: 1\n",
                 {"train.epochs=0", "model.depth=3"}),
      "configs/a.yaml:2:3: optim.momentun: unknown key; did you mean optim.momentum?\n"
      "configs/a.yaml:3:7: optim.lr: expected a number > 0, found 'fast'\n"
      "configs/a.yaml:5:10: data.batch: expected a whole number >= 1, found '0'\n"
      "configs/a.yaml:6:23: data.split.validation 0.9 and data.split.test 0.2 leave nothing to train on: their sum must "
      "be < 1\n"
      "configs/a.yaml:7:1: sed: unknown key; did you mean seed?\n"
      "command line: train.epochs=0: expected a whole number >= 1, found '0'\n"
      "command line: model.depth=3: unknown key");
}

TEST(ConfigErrors, ASyntaxErrorDoesNotHideTheCommandLine) {
  EXPECT_EQ(message_of("a: b: c\n", {"sed=1"}),
            "configs/a.yaml:1:5: not valid YAML: illegal map value\ncommand line: sed=1: unknown key; did you mean seed?");
}

TEST(ConfigErrors, AConflictWaitsUntilItsValuesAreValid) {
  EXPECT_EQ(message_of("optim: {lr_scale: linear, base_batch: -4}\n"),
            "configs/a.yaml:1:39: optim.base_batch: expected a whole number >= 0, found '-4'");
}

TEST(ConfigErrors, DeepAndRecursiveYamlIsRefused) {
  EXPECT_NE(message_of("a: &x [*x]\n").find("configs/a.yaml:1:8: a[0]: refers to itself"), std::string::npos);
  EXPECT_NE(message_of("a: " + std::string(5000, '[')).find("not valid YAML"), std::string::npos);
  std::string bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n";
  for (int i = 1; i < 9; ++i) {
    const std::string inner = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + inner;
    for (int copy = 1; copy < 10; ++copy) bomb += "," + inner;
    bomb += "]\n";
  }
  EXPECT_NE(message_of(bomb).find("too large for a config"), std::string::npos);
  EXPECT_NE(message_of("", {"name=" + std::string(5000, '[')}).find("nested too deeply"), std::string::npos);
}

TEST(ConfigErrors, AliasesAndAnchorsOfOrdinarySizeWork) {
  EXPECT_EQ(message_of("train: {eval_batch: &n 32}\ndata: {batch: *n}\nmodel: {hidden: &h [1, 2], channels: *h}\n"),
            "no error");
}

TEST(ConfigErrors, ALongValueIsShownShortened) {
  EXPECT_EQ(message_of("optim:\n  lr: " + std::string(100, 'x') + "\n"),
            "configs/a.yaml:2:7: optim.lr: expected a number > 0, found '" + std::string(60, 'x') + "...'");
}

}  // namespace
}  // namespace tugline
