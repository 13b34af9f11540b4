// SPDX-License-Identifier: Apache-2.0
// `tugline launch` with real jobs: whatever happens to them, they end as if nothing had.
#include <gmock/gmock.h>

#include <boost/json.hpp>

#include <csignal>
#include <fstream>

#include "tugline/core/error.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/tests/support/temporary_folder.hpp"
#include "tugline/tests/trainers/apps/program.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::int64_t kSteps = 2000;

class Launch : public TemporaryFolder {
 protected:
  void SetUp() override {
    TemporaryFolder::SetUp();
    write(folder_ / "long.yaml",
          "data: {name: digits, batch: 50}\nmodel: {name: mlp, hidden: [16], dropout: 0.1}\noptim: {lr: 0.01}\n"
          "train: {epochs: 1000, steps: 2000, eval_every: 20}\ncheckpoint: {every_steps: 50}\nlog: {every_steps: 1, tensorboard: false}\n");
  }
  static Words launch(const std::string& run) {
    return {"launch", "-n", "2", "--mpirun", std::string(mpirun()) + " -q --oversubscribe --bind-to none", "--", "train", "long.yaml",
            "--run-dir", run};
  }
  std::vector<json::object> attempts(const std::string& run) const {
    std::vector<json::object> lines;
    std::ifstream in(folder_ / run / "attempts.jsonl");
    for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line).as_object());
    return lines;
  }
  void expect_same_end(const std::string& run, const std::string& other) const {
    const auto last = [&](const std::string& name) {
      return read_checkpoint(CheckpointFolder(folder_ / name / "checkpoints").path_of(kSteps));
    };
    const Checkpoint a = last(run), b = last(other);
    ASSERT_EQ(a.arrays.size(), b.arrays.size());
    for (const auto& [path, array] : a.arrays) EXPECT_TRUE(array.data == b.arrays.at(path).data) << path << " differs in some bit";
  }
};

TEST_F(Launch, ARunWhoseRanksAreKilledEndsAsOneThatIsNot) {
  Words words = launch("killed");
  words.insert(words.end(), {"--inject", "kill:rank=1,step=730", "--inject", "kill:rank=0,step=1260"});
  const Outcome killed = run_program(folder_, words, 0);
  ASSERT_EQ(killed.exit_code, 0) << killed.err;
  ASSERT_EQ(run_program(folder_, {"train", "long.yaml", "--run-dir", "straight"}, 2).exit_code, 0);
  expect_same_end("killed", "straight");
  const auto lines = attempts("killed");
  ASSERT_EQ(lines.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(lines[i].at("next"), i < 2 ? "restart" : "done");
  EXPECT_EQ(lines[1].at("from_step"), lines[0].at("to_step"));
  EXPECT_GE(lines[1].at("from_step").as_int64(), 650) << "at most one interval is lost, and one checkpoint under way";
  EXPECT_GE(lines[2].at("from_step").as_int64(), 1150);
  EXPECT_EQ(lines[2].at("to_step"), kSteps);
}

TEST_F(Launch, ARunThatIsStoppedGoesOnWithTheSameCommand) {
  Program program(folder_, launch("stopped"), 0);
  program.wait_for("step ");
  program.signal(SIGTERM);
  const Outcome stopped = program.wait();
  ASSERT_EQ(stopped.exit_code, static_cast<int>(ExitCode::run_again)) << stopped.err;
  const Outcome again = run_program(folder_, launch("stopped"), 0);
  ASSERT_EQ(again.exit_code, 0) << again.err;
  ASSERT_EQ(run_program(folder_, {"train", "long.yaml", "--run-dir", "straight"}, 2).exit_code, 0);
  expect_same_end("stopped", "straight");
}

/// A rank that never comes back, and one that is frozen.
TEST_F(Launch, AHangIsFoundAndTheRankNamed) {
  for (const std::string kind : {"hang", "freeze"}) {
    const Outcome outcome = run_program(folder_, {"train", "long.yaml", "parallel.hang_seconds=3", "--run-dir", kind, "--inject",
                                                  kind + ":rank=1,step=7"}, 2);
    EXPECT_EQ(outcome.exit_code, static_cast<int>(ExitCode::hang)) << outcome.err;
    EXPECT_THAT(outcome.err, testing::HasSubstr(kind == "hang" ? "hang: rank 1 has been computing in step 7" : "hang: rank 1 does not answer"));
  }
}

TEST_F(Launch, MistakesShowBeforeAnythingStarts) {
  const auto expect = [&](const Words& words, ExitCode code, const char* what) {
    const Outcome outcome = run_program(folder_, words, 0);
    EXPECT_EQ(outcome.exit_code, static_cast<int>(code)) << what;
    EXPECT_THAT(outcome.err, testing::HasSubstr(what));
  };
  expect({"launch", "-n", "2"}, ExitCode::usage, "stands behind --");
  expect({"launch", "--", "overfit", "long.yaml"}, ExitCode::usage, "is `train`");
  expect({"launch", "-n", "0", "--", "train", "long.yaml"}, ExitCode::usage, "at least 1 rank");
  expect({"launch", "--", "train", "long.yaml", "optim.lrr=1"}, ExitCode::config, "optim.lr");
  expect({"launch", "--", "train", "long.yaml", "--rundir", "x"}, ExitCode::usage, "rundir");
  expect({"launch", "--mpirun", "no-such-mpirun", "--", "train", "long.yaml"}, ExitCode::io, "no-such-mpirun");
  EXPECT_FALSE(fs::exists(folder_ / "runs") && !fs::is_empty(folder_ / "runs")) << "nothing was left behind";
}

}  // namespace
}  // namespace tugline
