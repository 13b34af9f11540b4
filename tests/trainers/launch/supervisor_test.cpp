// SPDX-License-Identifier: Apache-2.0
// Attempts whose mpirun is a shell script: it finds its own call's number in $call, and the run's folder in $run.
#include "tugline/trainers/launch/supervisor.hpp"

#include <gmock/gmock.h>

#include <boost/json.hpp>

#include <csignal>
#include <fstream>
#include <sstream>

#include "tugline/core/error.hpp"
#include "tugline/core/signal_number.hpp"
#include "tugline/tests/support/temporary_folder.hpp"
#include "tugline/trainers/launch/process_tree.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using testing::ElementsAre;

class SupervisorTest : public TemporaryFolder {
 protected:
  void SetUp() override {
    TemporaryFolder::SetUp();
    fs::create_directories(run() / "checkpoints");
    write(run() / "config.yaml", "a run\n");
    options_.run_dir = run();
    options_.ranks = options_.min_ranks = 2;
    options_.first_pause_seconds = 0;
    options_.program = {"a", "b"};
  }
  fs::path run() const { return folder_ / "run"; }
  int supervise_script(const std::string& body) {
    write(folder_ / "mpirun", "run=" + run().string() + "\ncall=$(($(cat $run/../calls 2>/dev/null) + 1))\necho $call > $run/../calls\n" +
                                  "printf '%s\\n' \"$*\" >> $run/../commands\n" + body);
    options_.mpirun = {"/bin/sh", (folder_ / "mpirun").string()};
    return supervise(options_);
  }
  std::vector<json::object> attempts() const {
    std::vector<json::object> lines;
    std::ifstream in(run() / "attempts.jsonl");
    for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line).as_object());
    return lines;
  }
  std::vector<std::string> field(const char* name) const {
    std::vector<std::string> values;
    for (const json::object& line : attempts()) {
      const json::value& value = line.at(name);
      values.push_back(value.is_string() ? std::string(value.as_string()) : json::serialize(value));
    }
    return values;
  }
  LaunchOptions options_;
};

TEST_F(SupervisorTest, StartsAgainUntilItIsDone) {
  options_.only_the_first_time = {"--fresh"};
  options_.max_restarts = 1;   // and each attempt but the last brings a newer checkpoint
  EXPECT_EQ(supervise_script("[ $call = 1 ] && rm $run/config.yaml && echo new > $run/config.yaml\n[ $call = 3 ] && exit 0\ntouch $run/checkpoints/step-0000000$call.h5\n"
                             "[ $call = 2 ] && kill -KILL $$\nexit 76\n"), 0);
  EXPECT_THAT(field("attempt"), ElementsAre("1", "2", "3"));
  EXPECT_THAT(field("from_step"), ElementsAre("0", "1", "2"));
  EXPECT_THAT(field("to_step"), ElementsAre("1", "2", "2"));
  EXPECT_THAT(field("end"), ElementsAre("exit code 76 (a rank hangs)", "SIGKILL", "done"));
  EXPECT_THAT(field("next"), ElementsAre("restart", "restart", "done"));
  std::ifstream in(folder_ / "commands");
  std::ostringstream commands;
  commands << in.rdbuf();
  EXPECT_EQ(commands.str(), "-n 2 a b --fresh\n-n 2 a b\n-n 2 a b\n");
}

/// An attempt that dies before it has deleted the old run leaves that to the next; what lies there is no progress.
TEST_F(SupervisorTest, BeginsAnewOnceAndNotBefore) {
  options_.only_the_first_time = {"--fresh"};
  write(run() / "checkpoints" / "step-00009999.h5", "old");
  EXPECT_EQ(supervise_script("[ $call = 1 ] && exit 137\n"
                             "[ $call = 2 ] && rm $run/config.yaml $run/checkpoints/* && cp $run/../mpirun $run/config.yaml\n"
                             "[ $call = 2 ] && touch $run/checkpoints/step-00000010.h5 && exit 137\nexit 0\n"), 0);
  EXPECT_EQ(read(folder_ / "commands"), "-n 2 a b --fresh\n-n 2 a b --fresh\n-n 2 a b\n");
  EXPECT_THAT(field("from_step"), ElementsAre("0", "0", "10"));
  EXPECT_THAT(field("to_step"), ElementsAre("0", "10", "10"));
}

TEST_F(SupervisorTest, AFolderWithoutARunIsLeftAlone) {
  fs::remove_all(run());
  fs::create_directories(run());
  options_.max_restarts = 2;
  EXPECT_EQ(supervise_script("[ $call = 2 ] && [ -n \"$(ls -A $run)\" ] && exit 65\n[ $call = 2 ] && mkdir $run/checkpoints && "
                             "touch $run/config.yaml\n[ $call = 3 ] && exit 0\nexit 137\n"), 0);
  EXPECT_THAT(field("attempt"), ElementsAre("1", "2", "3")) << "nothing is lost of the account";
}

TEST_F(SupervisorTest, TheLastCheckpointStays) {
  write(run() / "checkpoints" / "step-00000007.h5", "");
  options_.max_restarts = 4;
  EXPECT_EQ(supervise_script("echo \"{\\\"event\\\": \\\"loading\\\", \\\"checkpoint\\\": \\\"$run/checkpoints/step-00000007.h5\\\"}\" >> "
                             "$run/metrics.jsonl\nexit 1\n"), 1);
  EXPECT_TRUE(fs::exists(run() / "checkpoints" / "step-00000007.h5"));
}

TEST_F(SupervisorTest, AFolderInUseIsTriedAgain) {
  EXPECT_EQ(supervise_script("case $call in 1) exit 137;; 2) exit 2;; esac\nexit 0\n"), 0);
}

TEST_F(SupervisorTest, GivesUpWhenRestartsBringNothing) {
  options_.max_restarts = 2;
  EXPECT_EQ(supervise_script("exit 137\n"), 137);
  EXPECT_THAT(field("next"), ElementsAre("restart", "restart", "give up"));
}

TEST_F(SupervisorTest, DoesNotRepeatWhatWouldEndInTheSameWay) {
  for (const int code : {2, 3, 65, 75, 78}) {
    fs::remove(run() / "attempts.jsonl");
    EXPECT_EQ(supervise_script("exit " + std::to_string(code) + "\n"), code);
    EXPECT_THAT(field("next"), ElementsAre(code == 75 ? "stopped" : "give up"));
  }
}

TEST_F(SupervisorTest, SetsACheckpointAsideFromWhichTwoAttemptsFailed) {
  write(run() / "checkpoints" / "step-00000003.h5", "");
  write(run() / "checkpoints" / "step-00000007.h5", "");
  write(run() / "checkpoints" / "step-00000007.1-of-2.h5", "a slice of it");
  const std::string newest = "newest=$(ls $run/checkpoints/*.h5 | tail -1)\n"
                             "echo \"{\\\"event\\\": \\\"loading\\\", \\\"checkpoint\\\": \\\"$newest\\\"}\" >> $run/metrics.jsonl\n";
  EXPECT_EQ(supervise_script(newest + "case $newest in *7.h5) exit 1;; esac\n"), 0);
  EXPECT_THAT(field("from_step"), ElementsAre("7", "7", "3"));
  EXPECT_TRUE(fs::exists(run() / "checkpoints" / "step-00000007.h5.set-aside"));
  EXPECT_TRUE(fs::exists(run() / "checkpoints" / "step-00000007.1-of-2.h5.set-aside"));
  EXPECT_THAT(std::string(attempts()[1].at("note").as_string()), testing::HasSubstr("step-00000007.h5 was set aside"));
}

TEST_F(SupervisorTest, ACheckpointThatNobodyLoadedIsNotBlamed) {
  write(run() / "checkpoints" / "step-00000007.h5", "");
  EXPECT_EQ(supervise_script("exit 1\n"), 1);
  EXPECT_TRUE(fs::exists(run() / "checkpoints" / "step-00000007.h5"));
}

TEST_F(SupervisorTest, SigtermAsksToSaveAndStop) {
  EXPECT_EQ(supervise_script("trap 'exit 75' USR1\nkill -TERM $PPID\nwhile :; do sleep 0.01; done\n"), 75);
  EXPECT_THAT(field("next"), ElementsAre("stopped"));
  EXPECT_THAT(field("exit_code"), ElementsAre("75"));
}

TEST_F(SupervisorTest, ASignalThatTheConfigNamesAsksToo) {
  options_.stop_signals = {signal_number("XCPU")};
  EXPECT_EQ(supervise_script("trap 'exit 75' USR1\nkill -XCPU $PPID\nwhile :; do sleep 0.01; done\n"), 75);
  EXPECT_THAT(field("next"), ElementsAre("stopped"));
}

TEST_F(SupervisorTest, ARequestThatNobodyHearsIsRepeated) {
  EXPECT_EQ(supervise_script("trap 'trap \"exit 75\" USR1' USR1\nkill -TERM $PPID\nwhile :; do sleep 0.01; done\n"), 75);
  EXPECT_THAT(field("exit_code"), ElementsAre("75"));
}

TEST_F(SupervisorTest, ARequestThatComesBeforeAnybodyListensLosesNothing) {
  EXPECT_EQ(supervise_script("kill -TERM $PPID\nwhile :; do sleep 0.01; done\n"), 75) << "the same command goes on";
  EXPECT_THAT(field("end"), ElementsAre("SIGUSR1"));
}

TEST_F(SupervisorTest, ASecondInterruptKills) {
  EXPECT_EQ(supervise_script("trap 'kill -INT $PPID' USR1\nkill -INT $PPID\nwhile :; do sleep 0.01; done\n"), 130);
}

TEST_F(SupervisorTest, WhoDoesNotStopInTimeIsKilled) {
  options_.grace_seconds = 0.1;
  EXPECT_EQ(supervise_script("trap '' USR1\nkill -TERM $PPID\nwhile :; do sleep 0.01; done\n"), 75) << "the same command goes on";
  EXPECT_THAT(field("end"), ElementsAre("SIGKILL"));
}

TEST_F(SupervisorTest, NothingIsLeftOfAnAttempt) {
  options_.max_restarts = 0;
  EXPECT_EQ(supervise_script("sleep 1000 &\necho $! > $run/pid\n(trap '' TERM HUP; sleep 1000) &\nexit 137\n"), 137);
  std::ifstream in(run() / "pid");
  int pid = 0;
  in >> pid;
  ASSERT_GT(pid, 0);
  EXPECT_EQ(::kill(pid, 0), -1) << "still there, or not buried";
  EXPECT_GE(attempts()[0].at("killed").as_int64(), 2);
}

TEST_F(SupervisorTest, GoesOnWithFewerRanksWhenAHostIsGone) {
  options_.hosts = parse_hosts("here:2,gone:2", 4);
  options_.ranks = 4;
  options_.min_ranks = 2;
  // A probe is `-n 1 --host NAME:1 true`.
  EXPECT_EQ(supervise_script("case \"$*\" in *gone:1*) exit 1;; *gone*) exit 137;; esac\nexit 0\n"), 0);
  EXPECT_THAT(field("ranks"), ElementsAre("4", "2"));
  EXPECT_THAT(field("hosts"), ElementsAre("here:2,gone:2", "here:2"));
  options_.min_ranks = 3;
  options_.max_restarts = 1;
  fs::remove(run() / "attempts.jsonl");
  EXPECT_EQ(supervise_script("case \"$*\" in *gone:1*) exit 1;; *gone*) exit 137;; esac\nexit 0\n"), 1) << "two are not enough";
}

TEST(ProcessTreeTest, SaysWhatCannotBeStarted) {
  EXPECT_THROW(ProcessTree({"/no/such/program"}), IoError);
  EXPECT_THROW(ProcessTree({"no-such-program-in-path"}), IoError);
}

TEST(ProcessTreeTest, EndsInWords) {
  EXPECT_EQ(describe_exit(0), "done");
  EXPECT_EQ(describe_exit(137), "SIGKILL");
  EXPECT_EQ(describe_exit(78), "exit code 78 (config)");
  EXPECT_EQ(describe_exit(42), "exit code 42");
}

}  // namespace
}  // namespace tugline
