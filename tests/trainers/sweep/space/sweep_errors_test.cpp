// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/space/sweep_config.hpp"

namespace tugline::sweep {
namespace {

/// What is told, without the name of the file.
std::string refusal(const std::string& yaml) {
  try {
    parse_sweep(yaml, "s.yaml");
    return "accepted";
  } catch (const ConfigError& error) {
    std::string told = error.what();
    for (auto at = told.find("s.yaml:"); at != told.npos; at = told.find("s.yaml:")) told.erase(at, 7);
    return told;
  }
}

struct Case {
  const char* written;
  const char* told;
};

/// The first line of a sweep over the config's schema; its base is any file that exists.
std::string with_base() {
  const auto base = std::filesystem::path(testing::TempDir()) / "tugline_sweep_base.yaml";
  std::ofstream(base) << "seed: 1\n";
  return "sweep: {base: " + base.string() + "}\n";
}

TEST(SweepErrors, OfTheSpace) {
  const Case cases[] = {
      {"optim.lrr: {float: [0, 1]}", "3:3: optim.lrr: unknown key; did you mean optim.lr?"},
      {"optim: {float: [0, 1]}", "3:3: optim: is a section: write a key below it, such as optim.KEY"},
      {"optim.groups: {choice: [a]}", "3:3: optim.groups: cannot be searched"},
      {"model.hidden[2]: {int: [1, 2]}", "3:3: model.hidden[2]: unknown key; did you mean model.hidden?"},
      {"model.width[i]: {int: [1, 2], for: i < 2}", "3:3: model.width[i]: model.width is no list: leave [i] out"},
      {"model.hidden[i]: {int: [1, 2]}", "3:3: model.hidden[i]: [i] needs a `for`, such as for: \"i < 4\""},
      {"optim.lr: {float: [0.1, 1], for: i < 2}", "3:36: optim.lr.for: `for` needs a key with [i], such as \"optim.lr[i]\""},
      {"model.hidden: {int: [1, 2]}",
       "3:18: model.hidden.int: model.hidden is a list: write \"model.hidden[i]\" with a `for`, or a choice of lists"},
      {"optim.lr: [0.1, 1]",
       "3:13: optim.lr: expected one of float: [low, high], int: [low, high], ordinal: [values], choice: [values], found a list"},
      {"optim.lr:",
       "3:3: optim.lr: expected one of float: [low, high], int: [low, high], ordinal: [values], choice: [values], found nothing"},
      {"optim.lr: {log: true}",
       "3:3: optim.lr: expected one of float: [low, high], int: [low, high], ordinal: [values], choice: [values]"},
      {"optim.lr: {float: [0.1, 1], int: [1, 2]}", "3:3: optim.lr: only one of float, int, ordinal and choice may stand here"},
      {"optim.lr: {flaot: [0.1, 1]}", "3:14: optim.lr.flaot: unknown key; did you mean float?"},
      {"optim.lr: {float: [0.1, 1], lg: true}", "3:31: optim.lr.lg: unknown key; did you mean log?"},
      {"optim.lr: {float: [0.1]}", "3:21: optim.lr.float: expected [low, high], found a list of 1"},
      {"optim.lr: {float: 0.1}", "3:21: optim.lr.float: expected [low, high], found '0.1'"},
      {"optim.lr: {float: [0.1, fast]}", "3:27: optim.lr.float: expected a number, found 'fast'"},
      {"optim.lr: {float: [0, 1]}", "3:22: optim.lr.float: optim.lr takes a number > 0, found '0'"},
      {"optim.momentum: {float: [0.5, 1]}", "3:33: optim.momentum.float: optim.momentum takes a number >= 0 and < 1, found '1'"},
      {"optim.lr: {float: [1, 0.1]}", "3:21: optim.lr.float: low is greater than high"},
      {"$x: {float: [0, 1], log: true}", "3:16: $x.float: with log: true low must be greater than 0"},
      {"data.batch: {float: [1, 2]}", "3:16: data.batch.float: data.batch is a whole number: write int"},
      {"data.batch: {int: [1, 2.5]}", "3:25: data.batch.int: expected a whole number, found '2.5'"},
      {"$x: {int: [0, 1e16]}", "3:17: $x.int: expected a whole number, found '1e16'"},
      {"optim.name: {int: [1, 2]}", "3:16: optim.name.int: optim.name is one of sgd, adam, adamw, adagrad: write choice"},
      {"optim.nesterov: {float: [0, 1]}", "3:20: optim.nesterov.float: optim.nesterov is true or false: write choice"},
      {"optim.name: {choice: [sgd, adamv]}",
       "3:30: optim.name.choice: expected one of sgd, adam, adamw, adagrad, found 'adamv'; did you mean adam?"},
      {"optim.name: {choice: []}", "3:24: optim.name.choice: expected a list of values, found an empty one"},
      {"optim.name: {choice: sgd}", "3:24: optim.name.choice: expected a list of values, found 'sgd'"},
      {"optim.name: {choice: [sgd, sgd]}", "3:30: optim.name.choice: sgd is written twice"},
      {"optim.name: {choice: [sgd, adam], log: true}", "3:42: optim.name.log: only float and int have a logarithmic scale"},
      {"data.batch: {ordinal: [16, 0]}", "3:30: data.batch.ordinal: expected a whole number >= 1, found '0'"},
      {"model.channels: {choice: [[16, 32], [16, x]]}", "3:44: model.channels.choice: expected a whole number >= 1, found 'x'"},
      {"model.channels: {choice: [16, 32]}",
       "3:29: model.channels.choice: expected a list of whole numbers >= 1, found '16'\n"
       "3:33: model.channels.choice: expected a list of whole numbers >= 1, found '32'"},
      {"model.options.a: {choice: [{b: c}]}", "3:30: model.options.a.choice: expected a value or a list of values, found a map of keys"},
      {"$a b: {int: [1, 2]}", "3:3: $a b: a name has letters, digits, and any of _ . - $ [i]"},
  };
  const std::string before = with_base() + "space:\n  ";
  for (const auto& [written, told] : cases) EXPECT_EQ(refusal(before + written), told) << written;
}

TEST(SweepErrors, OfConditions) {
  const Case cases[] = {
      {"optim.momentum: {float: [0, 0.9], when: \"optim.nam == sgd\"}",
       "7:44: optim.momentum.when: nothing in the space is called 'optim.nam'; did you mean optim.name?"},
      {"optim.momentum: {float: [0, 0.9], when: optim.name == adam}",
       "7:57: optim.momentum.when: optim.name is never 'adam'; did you mean adamw?"},
      {"optim.momentum: {float: [0, 0.9], when: 'optim.name = sgd'}", "7:55: optim.momentum.when: write == to compare"},
      {"optim.momentum: {float: [0, 0.9], when: [a]}", "7:43: optim.momentum.when: expected a condition, found a list"},
      {"optim.momentum: {float: [0, 0.9], when: data.batch > 128}", "7:43: optim.momentum.when: can never hold"},
      {"optim.momentum: {float: [0, 0.9], when: \"optim.lr > 0.05 and optim.lr < 0.04\"}", "accepted"},   // each may hold for itself
      {"optim.momentum: {float: [0, 0.9], when: \"optim.lr * 2 > 0.2 + optim.lr\"}", "7:43: optim.momentum.when: can never hold"},
      {"optim.momentum: {float: [0, 0.9], when: \"optim.nesterov and optim.name == adamw\"}",
       "7:43: optim.momentum.when: can never hold"},
      {"optim.momentum: {float: [0, 0.9], when: \"not optim.name in [sgd, adamw]\"}", "7:43: optim.momentum.when: can never hold"},
      {"optim.momentum: {float: [0, 0.9], when: \"not optim.nesterov in [true, false]\"}", "accepted"},   // when it is not active
      {"optim.momentum: {float: [0, 0.9], when: \"1 > 2\"}", "7:43: optim.momentum.when: can never hold"},
      {"optim.momentum: {float: [0, 0.9], when: \"optim.momentum > 0.5\"}",
       "7:43: optim.momentum.when: depends on itself: optim.momentum -> optim.momentum"},
      {"$a: {int: [1, 2], when: $b == 1}\n  $b: {int: [1, 2], when: $c == 1}\n  $c: {int: [1, 2], when: $a == 1}",
       "7:27: $a.when: depends on itself: $a -> $b -> $c -> $a"},
      {"$a: {int: [1, x]}\n  $b: {int: [1, 2], when: $a == 1}\n  $c: {int: [1, 2], when: $b > 2}",
       "7:17: $a.int: expected a whole number, found 'x'"},   // follow-ups are not told
      {"model.hidden[i]: {int: [1, 2], for: i <= 2}", "7:39: model.hidden[i].for: expected i < NAME or i < NUMBER"},
      {"model.hidden[i]: {int: [1, 2], for: i < $depht}\n  $depth: {int: [1, 3]}",
       "7:39: model.hidden[i].for: nothing in the space is called '$depht'; did you mean $depth?"},
      {"model.hidden[i]: {int: [1, 2], for: i < optim.lr}",
       "7:39: model.hidden[i].for: optim.lr does not count elements: its values are not whole numbers"},
      {"model.hidden[i]: {int: [1, 2], for: i < $d}\n  $d: {int: [0, 3]}",
       "7:39: model.hidden[i].for: $d may be 0, and the list would be empty"},
      {"$w[i]: {int: [1, 2], for: i < $d}\n  $d: {int: [-1, 0]}", "7:29: $w[i].for: can never hold: $d is at most 0"},
      {"$w[i]: {int: [1, 2], for: i < 2.5}", "7:29: $w[i].for: expected a whole number, found 2.5"},
      {"$w[i]: {int: [1, 2], for: i < 2000}", "7:29: $w[i].for: more than 1000 elements"},
      {"$w[i]: {int: [1, 2], for: i < 600}\n  $v[i]: {int: [1, 2], for: i < 600}\n  $z: {int: [1, 2], when: '$v[0] == 1'}",
       "8:3: $v[i]: the space has more than 1000 dimensions"},
      {"$a: {int: [1, 2], when: $b == 1}\n  $b: {int: [1, 2], when: $c}",
       "8:27: $b.when: nothing in the space is called '$c'; did you mean $a?"},   // of b alone
      {"$w[i]: {int: [1, 2], for: i < 4, when: i > 3}", "7:42: $w[i].when: can never hold"},
      {"model.hidden[i]: {int: [1, 2], for: i < 3, when: i != 1}",
       "7:52: model.hidden[i].when: a list has no gaps: the condition of its elements cannot be about i"},
      {"model.hidden[i]: {int: [1, 2], for: i < 3}\n  model.hidden: {choice: [[1], [2]]}",
       "7:3: model.hidden[i]: model.hidden is searched as a whole too"},
  };
  const std::string before = with_base() +
                             "space:\n  optim.name: {choice: [sgd, adamw]}\n  optim.lr: {float: [0.01, 0.1]}\n"
                             "  data.batch: {ordinal: [32, 128]}\n"
                             "  optim.nesterov: {choice: [true, false], when: optim.name == sgd}\n  ";
  for (const auto& [written, told] : cases) EXPECT_EQ(refusal(before + written), told) << written;
}

TEST(SweepErrors, OfWhatIsForbiddenAndFirst) {
  const Case cases[] = {
      {"forbid: 3", "9:9: forbid: expected a list of conditions, found '3'"},
      {"forbid: [[a]]", "9:10: forbid[0]: expected a condition, found a list"},
      {"forbid: [optim.lr > 0.05, 'optim.lr > x']", "9:39: forbid[1]: cannot compare a number with the text 'x'"},
      {"first: {optim.lr: 0.1}", "9:8: first: expected a list of points, found a map of keys"},
      {"first: [3]", "9:9: first[0]: expected keys with values, found '3'"},
      {"first: [{optim.lrr: 0.1}]", "9:10: first[0].optim.lrr: not in the space; did you mean optim.lr?"},
      {"first: [{optim.lr: 0.2}]", "9:20: first[0].optim.lr: expected a number from 0.01 to 0.1, found '0.2'"},
      {"first: [{optim.name: adam}]", "9:22: first[0].optim.name: expected one of sgd, adamw, found 'adam'; did you mean adamw?"},
      {"first: [{$depth: 1.5}]", "9:18: first[0].$depth: expected a whole number from 1 to 3, found '1.5'"},
      {"first: [{data.batch: 64}]", "9:22: first[0].data.batch: expected one of 32, 128, found '64'"},
      {"first: [{model.hidden: [8, 8, 8, 8]}]", "9:34: first[0].model.hidden: has at most 3 elements"},
      {"first: [{model.hidden: [8, 99]}]", "9:28: first[0].model.hidden[1]: expected a whole number from 4 to 16, found '99'"},
      {"first: [{optim.name: adamw, optim.momentum: 0.5}]",
       "9:45: first[0].optim.momentum: is not active with the other values given here"},
      {"first: [{$depth: 1, model.hidden: [8, 8]}]", "9:39: first[0].model.hidden[1]: is not active with the other values given here"},
      {"forbid: [optim.lr > 0.05]\nfirst: [{optim.name: adamw, optim.lr: 0.06, data.batch: 32, $depth: 1, model.hidden: [8]}]",
       "10:9: first[0]: is forbidden"},
      {"forbid: [optim.lr > 0.05]\nfirst: [{optim.name: adamw, optim.lr: 0.06, data.batch: 32, $depth: 1}]",
       "accepted"},   // something is open
      {"first: [{optim.momentum: 0.5, data.batch: 128.0}]", "accepted"},   // the name is drawn until it is sgd
  };
  const std::string before = with_base() +
                             "space:\n  optim.name: {choice: [sgd, adamw]}\n  optim.lr: {float: [0.01, 0.1]}\n"
                             "  data.batch: {ordinal: [32, 128]}\n"
                             "  optim.momentum: {float: [0, 0.9], when: optim.name == sgd}\n  $depth: {int: [1, 3]}\n"
                             "  model.hidden[i]: {int: [4, 16], for: i < $depth}\n";
  for (const auto& [written, told] : cases) EXPECT_EQ(refusal(before + written), told) << written;
}

TEST(SweepErrors, OfSections) {
  const Case cases[] = {
      {"spaces: {}", "2:1: spaces: unknown key; did you mean space?"},
      {"sweep: {nam: x}", "2:9: sweep.nam: unknown key; did you mean name?"},
      {"sweep: {seed: -1}", "2:15: sweep.seed: expected a whole number, found '-1'"},
      {"sweep: {dir: ''}", "2:14: sweep.dir: expected a folder, found nothing"},
      {"sweep: 3", "2:8: sweep: expected a section of keys below it, found '3'"},
      {"objectives: []", "2:13: objectives: expected a list such as [{metric: val/error}], found an empty one"},
      {"objectives: [{goal: min}]", "2:14: objectives[0].metric: expected the name of a metric, found nothing"},
      {"objectives: [{metric: a, goal: least}]", "2:32: objectives[0].goal: expected one of min, max, found 'least'"},
      {"objectives: [{metric: a, weight: -1}]", "2:34: objectives[0].weight: expected a number >= 0, found '-1'"},
      {"objectives: [{metric: a, weight: 0}]", "2:13: objectives: at least one weight must be greater than 0"},
      {"objectives: [{metric: a}, {metric: a}]", "2:36: objectives[1].metric: stands here twice"},
      {"search: {method: gpp}",
       "2:18: search.method: expected one of auto, grid, random, sobol, tpe, gp, regevo, found 'gpp'; did you mean gp?"},
      {"stop: {rule: ahsa}", "2:14: stop.rule: expected one of none, median, asha, found 'ahsa'; did you mean asha?"},
      {"stop: {rule: asha, min: 0, max: 3}", "2:25: stop.min: expected a whole number >= 1, found '0'"},
      {"stop: {rule: asha, min: 4, max: 3}", "2:33: stop.max: is less than min, which is 4"},
      {"stop: {rule: asha}", "2:14: stop.max: asha needs it: the epochs of a whole trial"},
      {"stop: {rule: asha, max: 9, eta: 1}", "2:33: stop.eta: expected a whole number >= 2, found '1'"},
      {"stop: {rule: asha, max: 9, eta: 2.5}", "2:33: stop.eta: expected a whole number >= 2, found '2.5'"},
      {"stop: {rule: asha, max: 9, unit: step}", "2:34: stop.unit: expected epoch, found 'step'"},
      {"stop: {rule: none, max: 9}", "2:25: stop.max: rule none has no such setting"},
      {"stop: {rule: median}", "2:14: stop.rule: median compares objectives while trials run: it needs sweep.base, and objectives of val/ alone"},
      {"stop: {min: 2}", "2:13: stop.min: rule none has no such setting"},
      {"budget: {trials: 0}", "2:18: budget.trials: expected a whole number >= 1, found '0'"},
      {"run: {ranks_per_trial: 0, max_attempts: many}",
       "2:24: run.ranks_per_trial: expected a whole number >= 1, found '0'\n"
       "2:41: run.max_attempts: expected a whole number >= 1, found 'many'"},
      {"run: {lease: 2 days}", "2:14: run.lease: expected a time such as 120 s, 2 min or 1 h, found '2 days'"},
      {"run: {timeout: 0 s}", "2:16: run.timeout: expected a time such as 120 s, 2 min or 1 h, found '0 s'"},
      {"repeat: {mode: lag, lag: 0}", "2:26: repeat.lag: expected a whole number >= 1, found '0'"},
      {"repeat: {lag: 4}", "2:15: repeat.lag: is a setting of mode: lag"},
      {"repeat: {mode: leg, lag: 4}", "2:16: repeat.mode: expected one of none, lag, found 'leg'; did you mean lag?"},
  };
  for (const auto& [written, told] : cases) EXPECT_EQ(refusal(std::string("space: {x: {int: [1, 2]}}\n") + written), told) << written;
  EXPECT_EQ(refusal("budget: {trials: 3}"), "1:1: space: expected keys to search, found nothing");
  EXPECT_EQ(refusal("space: [x]"), "1:8: space: expected keys to search, found a list");
  EXPECT_EQ(refusal("space: {optim.lr: {float: [0.1, 1]}}\nsweep: {base: /nowhere/none.yaml}"),
            "2:15: sweep.base: there is no file '/nowhere/none.yaml'");
  EXPECT_EQ(refusal("space: {x: {int: [1, 2]}\n"), "2:1: not valid YAML: end of map flow not found");
  EXPECT_EQ(refusal(with_base() + "space: {optim.lr: {float: [0.1, 1]}}\nobjectives: [{metric: val/eror}]"),
            "3:23: objectives[0].metric: expected one of train/loss, train/accuracy, train/error, val/loss, val/accuracy, val/error, "
            "test/loss, test/accuracy, test/error, cost/seconds, found 'val/eror'; did you mean val/error?");
  EXPECT_EQ(refusal(with_base() + "space: {train.epochs: {int: [1, 9]}}\nstop: {rule: asha, max: 9}"),
            "2:9: train.epochs: is set by stop.max");
}

TEST(SweepErrors, AreToldAllAtOnceInTheOrderOfTheFile) {
  EXPECT_EQ(refusal("sweep: {sed: 3}\n"
                    "space:\n"
                    "  a: {int: [2, 1]}\n"
                    "  b: {choice: [x, y], when: c > 0}\n"
                    "forbid: [b == z]\n"
                    "budget: {trials: few}\n"),
            "1:9: sweep.sed: unknown key; did you mean seed?\n"
            "3:12: a.int: low is greater than high\n"
            "4:29: b.when: nothing in the space is called 'c'; did you mean a?\n"
            "5:15: forbid[0]: b is never 'z'; did you mean x?\n"
            "6:18: budget.trials: expected a whole number >= 1, found 'few'");
}

TEST(SweepErrors, OfAFileThatIsNotThere) {
  try {
    load_sweep("/nowhere/s.yaml");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(), "cannot read the sweep '/nowhere/s.yaml': No such file or directory");
  }
}

}  // namespace
}  // namespace tugline::sweep
