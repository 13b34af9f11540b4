// SPDX-License-Identifier: Apache-2.0
// What a run leaves behind, and what the same command does when it is given again.
#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/metrics/json_text.hpp"
#include "tugline/tests/support/temporary_folder.hpp"
#include "tugline/tests/trainers/apps/program.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using testing::HasSubstr;

constexpr std::int64_t kSteps = 30, kStepsPerEpoch = 23;

json::value parsed(const fs::path& file) { return json::parse(read_file(file)); }

std::vector<json::object> lines_of(const fs::path& file) {
  std::vector<json::object> lines;
  std::istringstream in(read_file(file));
  for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line).as_object());
  return lines;
}

/// The keys of docs/metrics.md.
const std::map<std::string, std::set<std::string>> kSchema{
    {"start", {"time", "event", "ranks", "threads"}},
    {"step",
     {"time", "event", "epoch", "step", "total_steps", "loss", "accuracy", "lr", "samples", "samples_per_second", "seconds",
      "bytes_sent", "shares", "busy_seconds", "data_seconds", "cpu_seconds"}},
    {"evaluation", {"time", "event", "split", "epoch", "step", "loss", "accuracy", "samples", "seconds"}},
    {"balance", {"time", "event", "from_step", "shares", "unit", "reason"}},
    {"checkpoint", {"time", "event", "file", "step", "seconds"}},
    {"end", {"time", "event", "steps"}}};

class RunFolder : public TemporaryFolder, public testing::WithParamInterface<int> {
 protected:
  /// 1,437 digits to train on in batches of 64: an epoch has 23 steps, the last with 29 samples.
  void SetUp() override {
    TemporaryFolder::SetUp();
    write(folder_ / "tiny.yaml",
          "data: {name: digits, batch: 64, split: {validation: 0.1, test: 0.1}}\nmodel: {name: mlp, hidden: [16]}\n"
          "optim: {lr: 0.05}\ntrain: {steps: 30}\nlog: {every_steps: 1}\n");
  }
  fs::path run() const { return folder_ / "run"; }
  Outcome train(const Words& more = {}) const {
    Words words{"train", "tiny.yaml", "--run-dir", "run"};
    words.insert(words.end(), more.begin(), more.end());
    return run_program(folder_, words, GetParam());
  }
  void expect_result() const;
  void expect_metrics() const;
  void expect_same_figures_from_eval() const;
};

void RunFolder::expect_result() const {
  const json::object result = parsed(run() / "result.json").as_object();
  EXPECT_EQ(result.at("status"), "done");
  EXPECT_EQ(result.at("ranks"), GetParam());
  EXPECT_EQ(result.at("epochs"), kSteps / kStepsPerEpoch);
  EXPECT_EQ(result.at("steps"), kSteps);
  EXPECT_GT(json_double(result.at("samples_per_second")), 0);
  for (const char* split : {"train", "validation", "test"}) {
    EXPECT_GT(json_double(result.at(split).at("loss")), 0) << split;
    EXPECT_GT(json_double(result.at(split).at("accuracy")), 0.1) << split;
    EXPECT_LE(json_double(result.at(split).at("accuracy")), 1) << split;
  }
  EXPECT_EQ(result.at("checkpoint"), "checkpoints/step-00000030.h5");
}

void RunFolder::expect_metrics() const {
  std::vector<std::int64_t> steps;
  std::int64_t samples = 0;
  std::set<std::string> events;
  for (const json::object& line : lines_of(run() / "metrics.jsonl")) {
    const std::string event(line.at("event").as_string());
    events.insert(event);
    std::set<std::string> keys;
    for (const auto& field : line) keys.insert(field.key());
    ASSERT_TRUE(kSchema.contains(event)) << event;
    EXPECT_EQ(keys, kSchema.at(event)) << event;
    if (event != "step") continue;
    steps.push_back(line.at("step").as_int64());
    samples += line.at("samples").as_int64();
    std::int64_t shares = 0;
    for (const auto& share : line.at("shares").as_array()) shares += share.as_int64();
    EXPECT_EQ(line.at("shares").as_array().size(), static_cast<std::size_t>(GetParam()));
    EXPECT_EQ(shares, line.at("samples").as_int64());
    EXPECT_EQ(line.at("busy_seconds").as_array().size(), static_cast<std::size_t>(GetParam()));
    for (const auto& busy : line.at("busy_seconds").as_array()) EXPECT_GT(busy.as_double(), 0) << "every rank had samples";
  }
  std::vector<std::int64_t> all(kSteps);
  std::iota(all.begin(), all.end(), 1);
  EXPECT_EQ(steps, all);
  EXPECT_EQ(samples, 1437 + 7 * 64) << "a whole epoch with its ragged batch, then seven steps";
  std::set<std::string> wanted{"start", "step", "evaluation", "checkpoint", "end"};
  if (GetParam() > 1) wanted.insert("balance");   // which shares, for who wants to repeat the run
  EXPECT_EQ(events, wanted);
}

void RunFolder::expect_same_figures_from_eval() const {
  const json::object result = parsed(run() / "result.json").as_object();
  for (const int ranks : {1, 2, 3}) {
    for (const std::string split : {"validation", "test"}) {
      if (split == "validation" && ranks != GetParam()) continue;  // one split is enough to tell ranks apart
      const Outcome outcome = run_program(folder_, {"eval", "run", "--split", split, "--json"}, ranks);
      ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
      EXPECT_EQ(outcome.err, "");
      const json::object figures = json::parse(outcome.out).as_object();
      EXPECT_EQ(json_double(figures.at("loss")), json_double(result.at(split).at("loss"))) << split << " on " << ranks;
      EXPECT_EQ(json_double(figures.at("accuracy")), json_double(result.at(split).at("accuracy")))
          << split << " on " << ranks;
      EXPECT_EQ(figures.at("samples"), 180);
      EXPECT_EQ(figures.at("checkpoint"), "run/checkpoints/step-00000030.h5");
    }
  }
}

TEST_P(RunFolder, HoldsWhatItPromises) {
  const Outcome outcome = train();
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("done: 1 epoch, 30 steps in "));
  expect_result();
  expect_metrics();
  EXPECT_THAT(read_file(run() / "config.yaml"), HasSubstr("steps: 30"));
  const json::object environment = parsed(run() / "environment.json").as_object();
  EXPECT_THAT(json::serialize(environment), HasSubstr("tiny.yaml"));
  for (int rank = 0; rank < GetParam(); ++rank) {
    EXPECT_TRUE(fs::exists(run() / "logs" / ("rank-" + std::to_string(rank) + ".log"))) << rank;
  }
  std::set<std::string> names, files;
  for (const auto& entry : fs::directory_iterator(run())) names.insert(entry.path().filename().string().substr(0, 20));
  EXPECT_EQ(names, (std::set<std::string>{".tugline-run", "checkpoints", "config.yaml", "environment.json",
                                          "events.out.tfevents.", "lock", "logs", "metrics.jsonl", "result.json"}));
  const CheckpointFolder checkpoints(run() / "checkpoints");
  EXPECT_EQ(checkpoints.list().back().step, kSteps);
  const Checkpoint last = read_checkpoint(checkpoints.path_of(kSteps));
  for (const char* name : {"hidden0.weight", "hidden0.bias", "output.weight", "output.bias"}) {
    EXPECT_TRUE(last.arrays.contains(std::string("/parameters/") + name)) << name;
  }
  expect_same_figures_from_eval();
}

TEST_P(RunFolder, TheSameCommandAgain) {
  const Outcome first = train();
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const auto before = snapshot(run());
  const Outcome again = train();
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("run run is finished; --fresh starts over"));
  EXPECT_TRUE(snapshot(run()) == before);

  TemporaryFolder::write(run() / "notes.txt", "mine");
  const Outcome fresh = train({"--fresh", "train.steps=3"});
  EXPECT_EQ(fresh.exit_code, 0) << fresh.err;
  EXPECT_EQ(read_file(run() / "notes.txt"), "mine");
  EXPECT_EQ(parsed(run() / "result.json").at("steps"), 3);
  EXPECT_EQ(CheckpointFolder(run() / "checkpoints").list().size(), 1U) << "nothing of the older run is left";
}

INSTANTIATE_TEST_SUITE_P(Ranks, RunFolder, testing::Values(1, 2, 3));

}  // namespace
}  // namespace tugline
