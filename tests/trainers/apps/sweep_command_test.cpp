// SPDX-License-Identifier: Apache-2.0
// `tugline sweep` with real trainings: whatever happens to its processes, each trial ends once.
#include <gmock/gmock.h>

#include <boost/json.hpp>

#include <csignal>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>

#include "tugline/core/error.hpp"
#include "tugline/tests/support/temporary_folder.hpp"
#include "tugline/tests/trainers/apps/program.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using testing::AllOf;
using testing::HasSubstr;

class Sweep : public TemporaryFolder {
 protected:
  void SetUp() override {
    TemporaryFolder::SetUp();
    write_base(4);
  }
  void write_base(int epochs) const {
    write(folder_ / "base.yaml", "data: {name: digits, batch: 50}\nmodel: {name: mlp, hidden: [16]}\noptim: {lr: 0.1}\n"
                                 "train: {epochs: " + std::to_string(epochs) + ", eval_every: 1}\nlog: {tensorboard: false}\n");
  }
  void write_sweep(const std::string& more, const std::string& space = "optim.lr: {float: [0.01, 0.3], log: true}") const {
    write(folder_ / "s.yaml", "sweep: {name: s, base: base.yaml, seed: 3}\nobjectives: [{metric: val/loss, goal: min}]\nspace:\n  " + space + "\n" + more);
  }
  Outcome sweep(Words words) const {
    words.insert(words.begin(), "sweep");
    return run_program(folder_, words, 0);
  }
  std::vector<json::object> table() const {
    const Outcome outcome = sweep({"export", "s.yaml", "--format", "jsonl"});
    std::vector<json::object> rows;
    std::istringstream in(outcome.out);
    for (std::string line; std::getline(in, line);) rows.push_back(json::parse(line).as_object());
    return rows;
  }
  std::size_t entries(const char* folder) const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_ / folder), fs::directory_iterator()));
  }
  std::string replay() const { return sweep({"replay", "s.yaml"}).out; }
};

TEST_F(Sweep, HalvingPausesTrialsAndContinuesTheBestFromTheirCheckpoints) {
  write_sweep("search: {method: random}\nstop: {rule: asha, min: 1, max: 4, eta: 2}\nbudget: {trials: 4}\n");
  const Outcome outcome = sweep({"run", "s.yaml", "-n", "2"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr(" best"));
  EXPECT_EQ(outcome.out.find_first_of("\r\x1b"), std::string::npos) << "into a pipe nothing is drawn";
  int to_the_end = 0;
  for (const json::object& row : table()) {
    const std::int64_t attempts = row.at("attempts").as_int64();
    const double epochs = row.at("epochs").to_number<double>();
    EXPECT_EQ(epochs, 1 << (attempts - 1)) << "a rung each";
    EXPECT_EQ(row.at("state"), epochs == 4 ? "done" : "paused");
    to_the_end += epochs == 4 ? 1 : 0;
    if (attempts == 1) continue;
    for (const auto& entry : fs::directory_iterator(folder_ / "runs/s/trials" / ("00000" + std::to_string(row.at("trial").as_int64())))) {
      const bool first = entry.path().filename().string() < "job-000004";
      if (first || !entry.is_directory()) continue;
      EXPECT_THAT(read(entry.path() / "metrics.jsonl"), HasSubstr("\"event\":\"resume\"")) << entry.path();
    }
  }
  EXPECT_GE(to_the_end, 1);
  EXPECT_THAT(replay(), HasSubstr(", 0 differ"));
  const auto before = snapshot(folder_ / "runs/s/jobs");
  EXPECT_EQ(sweep({"run", "s.yaml"}).exit_code, 0);
  EXPECT_EQ(snapshot(folder_ / "runs/s/jobs"), before) << "the same command finds nothing to do";
  EXPECT_THAT(sweep({"best", "s.yaml"}).out, HasSubstr("epochs 4"));
}

TEST_F(Sweep, StoppedItSavesAndTheSameCommandGoesOn) {
  write_sweep("search: {method: random}\nbudget: {trials: 3}\n");
  Program program(folder_, {"sweep", "run", "s.yaml", "-n", "1"}, 0);
  program.wait_for("trial    0");
  program.signal(SIGTERM);
  const Outcome stopped = program.wait();
  ASSERT_EQ(stopped.exit_code, static_cast<int>(ExitCode::run_again)) << stopped.err;
  ASSERT_EQ(sweep({"run", "s.yaml", "-n", "2"}).exit_code, 0);
  const auto rows = table();
  ASSERT_EQ(rows.size(), 3u);
  for (const json::object& row : rows) EXPECT_EQ(row.at("state"), "done");
}

/// As scancel's TERM comes beside what a batch script passes on.
TEST_F(Sweep, ASecondSignalOfASchedulerLeavesTheTrialTimeToSave) {
  write_sweep("search: {method: random}\nbudget: {trials: 1}\n");
  write_base(100000);
  Program worker(folder_, {"sweep", "work", "s.yaml"}, 0);
  while (read(folder_ / "runs/s/trials/000000/job-000000.001/metrics.jsonl").find("\"step\"") == std::string::npos) ::sched_yield();
  worker.signal(SIGUSR1);
  worker.signal(SIGTERM);
  EXPECT_EQ(worker.wait().exit_code, static_cast<int>(ExitCode::run_again));
  const std::string end = read(folder_ / "runs/s/jobs/000/000000.1");
  EXPECT_THAT(end, HasSubstr("\"preempted\""));
  EXPECT_THAT(end, HasSubstr("train/loss")) << "it has written its result";
}

/// Its claim stays, and nobody beats for it.
TEST_F(Sweep, AKilledWorkersTrialIsDoneByAnother) {
  write_sweep("search: {method: random}\nbudget: {trials: 2}\nrun: {lease: 1 s}\n");
  write_base(100);
  {
    Program worker(folder_, {"sweep", "work", "s.yaml"}, 0);
    while (!fs::exists(folder_ / "runs/s/trials/000000/job-000000.001/metrics.jsonl")) ::sched_yield();
    worker.signal(SIGKILL);
    worker.wait();
  }
  ASSERT_EQ(sweep({"run", "s.yaml", "-n", "2"}).exit_code, 0);
  const auto rows = table();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].at("attempts"), 2);
  for (const json::object& row : rows) EXPECT_EQ(row.at("state"), "done");
}

TEST_F(Sweep, FailuresAreToldApartAndOtherTrialsDoNotMind) {
  write_sweep("search: {method: grid}\nrun: {max_attempts: 2}\n", "optim.lr: {choice: [0.1, 1.0e+30]}\n  parallel.backend: {choice: [auto, mpi]}");
  ASSERT_EQ(sweep({"run", "s.yaml", "-n", "2"}).exit_code, 0);
  std::map<std::string, int> states;
  for (const json::object& row : table()) ++states[std::string(row.at("state").as_string())];
  EXPECT_EQ(states, (std::map<std::string, int>{{"done", 1}, {"diverged", 1}, {"refused", 2}})) << sweep({"status", "s.yaml"}).out;
}

TEST_F(Sweep, AnAttemptThatTakesTooLongIsMadeAgainAsOftenAsAllowed) {
  write_sweep("search: {method: random}\nbudget: {trials: 1}\nrun: {max_attempts: 2, timeout: 0.5 s}\n");
  write_base(100000);
  ASSERT_EQ(sweep({"run", "s.yaml"}).exit_code, static_cast<int>(ExitCode::check_said_no)) << "no trial has a value";
  ASSERT_EQ(table().size(), 1u);
  EXPECT_EQ(table()[0].at("state"), "timed out");
  EXPECT_EQ(table()[0].at("attempts"), 2);
  EXPECT_THAT(sweep({"retry", "s.yaml"}).out, HasSubstr("1 trials"));
  ASSERT_EQ(sweep({"run", "s.yaml"}).exit_code, static_cast<int>(ExitCode::check_said_no));
  EXPECT_EQ(table()[0].at("attempts"), 4);
}

TEST_F(Sweep, ADamagedDecisionIsMadeAgainAndNoOther) {
  write_sweep("search: {method: tpe}\nstop: {rule: asha, min: 1, max: 4, eta: 2}\nbudget: {trials: 4}\n");
  ASSERT_EQ(sweep({"run", "s.yaml", "-n", "1"}).exit_code, 0);
  const std::size_t jobs = entries("runs/s/jobs/000");
  {
    std::fstream file(folder_ / "runs/s/jobs/000/000000.0", std::ios::in | std::ios::out);
    file.seekp(40).put('#');
  }
  EXPECT_THAT(sweep({"status", "s.yaml"}).out, HasSubstr("damaged: "));
  ASSERT_EQ(sweep({"run", "s.yaml", "-n", "2"}).exit_code, 0);
  std::set<std::int64_t> trials;
  for (const json::object& row : table()) trials.insert(row.at("trial").as_int64());
  EXPECT_EQ(trials, (std::set<std::int64_t>{0, 1, 2, 3}));
  EXPECT_LE(entries("runs/s/jobs/000"), jobs + 2 + 2 * 3) << "a claim and an end, and at most trial 0's jobs once more";
  EXPECT_THAT(replay(), AllOf(HasSubstr(" 0 differ"), HasSubstr("cannot be made again")));
}

TEST_F(Sweep, AMetricThatTheTrainingDoesNotHaveIsSaid) {
  write(folder_ / "s.yaml", "sweep: {name: s, base: base.yaml}\nobjectives: [{metric: test/loss}]\nspace: {data.split.test: {choice: [0.0]}}\n"
                            "search: {method: grid}\n");
  const Outcome outcome = sweep({"run", "s.yaml"});
  EXPECT_EQ(outcome.exit_code, static_cast<int>(ExitCode::check_said_no));
  EXPECT_THAT(outcome.out, HasSubstr("objective test/loss: the training has no such metric, it has "));
  EXPECT_EQ(table()[0].at("state"), "refused");
}

TEST_F(Sweep, TheMedianRuleEndsWhatLagsBehind) {
  write_sweep("search: {method: grid}\nstop: {rule: median, min: 2, warmup_trials: 3}\nrepeat: {mode: lag, lag: 1}\n",
              "optim.lr: {ordinal: [0.1, 0.15, 0.2, 1.0e-7]}");
  write(folder_ / "base.yaml", "data: {name: digits, batch: 10}\nmodel: {name: mlp, hidden: [64, 64]}\noptim: {lr: 0.1}\n"
                               "train: {epochs: 60, eval_every: 1}\nlog: {tensorboard: false}\n");
  ASSERT_EQ(sweep({"run", "s.yaml", "-n", "1"}).exit_code, 0);
  const auto rows = table();
  ASSERT_EQ(rows.size(), 4u);
  for (int trial = 0; trial < 3; ++trial) EXPECT_EQ(rows[static_cast<std::size_t>(trial)].at("state"), "done");
  EXPECT_EQ(rows[3].at("state"), "stopped");
  EXPECT_LT(rows[3].at("epochs").to_number<double>(), 60);
  EXPECT_TRUE(rows[3].at("value").is_double());
}

TEST_F(Sweep, TrialsMayHaveSeveralRanksAndAnMpirunStartsAWorkerPerRank) {
  write_sweep("search: {method: random}\nbudget: {trials: 2}\nrun: {ranks_per_trial: 2, mpirun: '" + std::string(mpirun()) + " -q --oversubscribe --bind-to none'}\n");
  ASSERT_EQ(run_program(folder_, {"sweep", "run", "s.yaml"}, 2).exit_code, 0);
  const auto rows = table();
  ASSERT_EQ(rows.size(), 2u);
  for (const json::object& row : rows) EXPECT_EQ(row.at("state"), "done");
  EXPECT_THAT(read(folder_ / "runs/s/trials/000000/job-000000.001/result.json"), HasSubstr("\"ranks\": 2"));
}

TEST_F(Sweep, AskAndTellServeOtherPrograms) {
  write(folder_ / "s.yaml", "sweep: {name: s}\nobjectives: [{metric: loss}]\nspace: {x: {int: [0, 1]}, kind: {choice: [2, '3', [1, false]]}}\nsearch: {method: grid}\nbudget: {trials: 6}\n");
  std::set<std::string> kinds;
  for (int trial = 0; trial < 6; ++trial) {
    const Outcome asked = sweep({"ask", "s.yaml"});
    ASSERT_EQ(asked.exit_code, 0) << asked.err;
    const json::object given = json::parse(asked.out).as_object();
    EXPECT_TRUE(given.at("values").at("x").is_number());
    kinds.insert(json::serialize(given.at("values").at("kind")));
    const std::string id(given.at("id").as_string());
    EXPECT_EQ(sweep({"tell", "s.yaml", id}).exit_code, static_cast<int>(ExitCode::usage)) << "no value";
    EXPECT_EQ(sweep({"tell", "s.yaml", id, "loss=" + std::to_string(trial)}).exit_code, 0);
    EXPECT_EQ(sweep({"tell", "s.yaml", id, "loss=9"}).exit_code, static_cast<int>(ExitCode::usage)) << "it is over";
  }
  EXPECT_EQ(kinds, (std::set<std::string>{"2", R"("3")", "[1,false]"})) << "as they stand in the file";
  EXPECT_FALSE(fs::exists(folder_ / "runs/s/workers")) << "nobody beats for trials of others";
  EXPECT_THAT(sweep({"ask", "s.yaml"}).out, HasSubstr("finished"));
  EXPECT_THAT(sweep({"best", "s.yaml"}).out, HasSubstr("trial 0"));
}

TEST_F(Sweep, WhatWasGivenUpIsAskedForAgainAndALossThatIsToBeLargeIsShownAsItIs) {
  write(folder_ / "s.yaml", "sweep: {name: s}\nobjectives: [{metric: score, goal: max}]\nspace: {x: {float: [0, 1]}}\nsearch: {method: random}\nbudget: {trials: 1}\n");
  const auto asked = [&] { return json::parse(sweep({"ask", "s.yaml"}).out).as_object(); };
  EXPECT_EQ(asked().at("id"), "0.1");
  EXPECT_EQ(sweep({"tell", "s.yaml", "0.1", "--failed"}).exit_code, 0);
  EXPECT_TRUE(asked().contains("finished"));
  EXPECT_EQ(sweep({"retry", "s.yaml", "7"}).exit_code, static_cast<int>(ExitCode::usage));
  EXPECT_EQ(sweep({"retry", "s.yaml", "0"}).exit_code, 0);
  EXPECT_EQ(asked().at("id"), "0.2");
  EXPECT_EQ(sweep({"tell", "s.yaml", "0.2", "score=12.5", "other=3"}).exit_code, 0);
  EXPECT_THAT(sweep({"best", "s.yaml"}).out, HasSubstr("value 12.5 "));
  EXPECT_EQ(table()[0].at("value").to_number<double>(), 12.5);
  EXPECT_TRUE(table()[0].at("point").at("x").is_number());
  EXPECT_THAT(sweep({"status", "s.yaml"}).out, HasSubstr("finished: 1 of 1 trials begun, 1 done"));
  EXPECT_THAT(sweep({"rank", "s.yaml", "other=1", "score=0"}).out, HasSubstr(" 3 "));
  EXPECT_EQ(sweep({"rank", "s.yaml", "others=1"}).exit_code, static_cast<int>(ExitCode::usage));
}

TEST_F(Sweep, OfTrialsThatAreToldTheOneThatCameFurthestIsBest) {
  write(folder_ / "s.yaml", "sweep: {name: s}\nobjectives: [{metric: loss}]\nspace: {x: {float: [0, 1]}}\nsearch: {method: random}\n"
                            "stop: {rule: asha, min: 1, max: 2, eta: 2}\nbudget: {trials: 2}\n");
  for (const char* told : {"0.1 loss=1", "1.1 loss=2", "2.1 loss=1.5"}) {
    ASSERT_EQ(sweep({"ask", "s.yaml"}).exit_code, 0);
    const std::string words(told), id = words.substr(0, 3), pair = words.substr(4);
    EXPECT_EQ(sweep({"tell", "s.yaml", id, pair}).exit_code, 0);
  }
  EXPECT_THAT(sweep({"best", "s.yaml"}).out, HasSubstr("trial 0  value 1.5  epochs 2"));
  EXPECT_EQ(sweep({"tell", "s.yaml", "2.1.9", "loss=1"}).exit_code, static_cast<int>(ExitCode::usage));
}

TEST_F(Sweep, TheBasesContentBelongsToTheSweep) {
  write_sweep("search: {method: random}\nstop: {rule: asha, min: 1, max: 4, eta: 2}\nbudget: {trials: 1}\n");
  ASSERT_EQ(sweep({"run", "s.yaml", "-n", "1"}).exit_code, 0);
  EXPECT_THAT(sweep({"best", "s.yaml"}).out, HasSubstr("train.epochs=4")) << "the command trains what was trained";
  write_base(5);
  const Outcome outcome = sweep({"run", "s.yaml"});
  EXPECT_EQ(outcome.exit_code, static_cast<int>(ExitCode::config));
  EXPECT_THAT(outcome.err, HasSubstr("what differs: what sweep.base says)"));
}

TEST_F(Sweep, MistakesShowBeforeAnythingStarts) {
  const auto expect = [&](const Words& words, ExitCode code, const char* what) {
    const Outcome outcome = sweep(words);
    EXPECT_EQ(outcome.exit_code, static_cast<int>(code)) << what;
    EXPECT_THAT(outcome.err, HasSubstr(what));
  };
  write_sweep("search: {method: random}\n");
  expect({"rum", "s.yaml"}, ExitCode::usage, "did you mean run?");
  expect({"plan", "s.yaml", "search.method=gp"}, ExitCode::usage, "search.method=gp");
  expect({"rank", "s.yaml", "val/los=1"}, ExitCode::usage, "val/los");
  write(folder_ / "s.yaml", "sweep: {base: base.yaml}\nobjectives: [{metric: test/loss}]\nspace: {optim.lr: {float: [0, 1]}}\nstop: {rule: median}\n");
  expect({"plan", "s.yaml"}, ExitCode::config, "median compares");
  write_sweep("search: {method: random}\n", "optim.lrr: {float: [0.01, 0.3]}");
  expect({"plan", "s.yaml"}, ExitCode::config, "s.yaml:4");
  write_sweep("search: {method: random}\n", "optim.momentum: {choice: [0.0]}\n  optim.nesterov: {choice: [true]}");
  expect({"run", "s.yaml"}, ExitCode::config, "the sweep would try");
  EXPECT_FALSE(fs::exists(folder_ / "runs"));
}

}  // namespace
}  // namespace tugline
