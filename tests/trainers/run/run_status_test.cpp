// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run/run_status.hpp"

#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <chrono>

#include "tugline/core/error.hpp"
#include "tugline/core/metrics/event_log.hpp"
#include "tugline/tests/support/temporary_folder.hpp"
#include "tugline/trainers/run/result.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

// 2026-01-01T00:00:00Z
constexpr double kBegin = 1767225600;

class RunStatus : public TemporaryFolder {
 protected:
  /// An attempt on two ranks whose second one is slow, one step in 0.1 s.
  void train(double begin, int first, int last, bool ends = false) {
    now_ = begin;
    EventLog log(folder_ / "metrics.jsonl", [this] { return now_; });
    log.event("start", {{"ranks", 2}});
    for (int step = first; step <= last; ++step) {
      now_ += 0.1;
      StepRecord record{.epoch = 1, .step = step, .total_steps = 1000, .loss = 0.312, .accuracy = 0.9125};
      record.samples = 64;
      record.samples_per_second = 640;
      record.ranks = {{32, 0, 0.04, 0.04}, {32, 0, 0.08, 0.08}};
      log.step(record);
    }
    if (ends) log.event("end", {});
  }
  void attempts(const std::string& lines) const { write(folder_ / "attempts.jsonl", lines); }
  std::string status(double now) const { return run_status(folder_, now); }
  std::string state(double now) const {
    const std::string text = status(now), head = folder_.string() + ": ";
    EXPECT_THAT(text, StartsWith(head));
    return text.substr(head.size(), text.find('\n') - head.size());
  }
  double now_ = 0;
};

constexpr const char* kKilled =
    R"({"attempt":1,"started":"2026-01-01T00:00:00Z","seconds":20.5,"to_step":150,"end":"SIGKILL","next":"restart"})" "\n";

TEST_F(RunStatus, SaysHowARunGoesAndWhoIsWaitedFor) {
  train(kBegin, 1, 200);
  train(kBegin + 100, 151, 400);
  attempts(kKilled);
  EventLog log(folder_ / "metrics.jsonl", [this] { return now_; });
  log.event("balance", {{"from_step", 170}, {"shares", {32, 32}}, {"reason", "equal again"}});
  log.evaluation({.split = "validation", .step = 360, .loss = 0.25, .accuracy = 0.5});
  const fs::path checkpoint = folder_ / "checkpoints" / "step-00000350.h5";
  write(checkpoint, "");
  write(folder_ / "checkpoints" / "step-00000300.h5", "");
  const auto written = std::chrono::duration<double>(kBegin + 121);
  fs::last_write_time(checkpoint, std::chrono::file_clock::from_sys(
                                      std::chrono::sys_time<std::chrono::file_clock::duration>(
                                          std::chrono::duration_cast<std::chrono::file_clock::duration>(written))));
  write(folder_ / "environment.json", R"({"ranks":2,"bindings":[{"host":"alpha"},{"host":"beta"}]})");
  // The newest 100 recorded steps of 0.1 s each: 600 are left.
  EXPECT_EQ(status(kBegin + 130), folder_.string() +
                                      ": running, last event 0:05 ago\n"
                                      "  epoch 1  step 400/1000  loss 0.3120  accuracy 91.25%  640 samples/s  1:00 left\n"
                                      "  validation  step 360  loss 0.2500  accuracy 50.00%\n"
                                      "  checkpoint  step 350, 0:09 ago\n"
                                      "  restarts    1, the last after attempt 1 ended at step 150: SIGKILL\n"
                                      "  shares      32 | 32, from step 170: equal again\n"
                                      "  rank  host           share  samples/s  busy ms  wait ms  why\n"
                                      "     0  alpha      32.0  50%        800    40.00    40.00\n"
                                      "     1  beta       32.0  50%        400    80.00     0.00  slow core\n"
                                      "  slack rank 1 on beta: the others wait for it; waiting takes 20 % of all ranks' time\n");
}

TEST_F(RunStatus, TellsStatesApart) {
  train(kBegin, 1, 200);   // until 20 s later
  EXPECT_EQ(state(kBegin + 30), "running, last event 0:10 ago");
  EXPECT_EQ(state(kBegin + 19), "running, last event 0:00 ago") << "another machine's clock";
  EXPECT_THAT(state(kBegin + 200), StartsWith("silent, last event 3:00 ago"));
  attempts(kKilled);
  EXPECT_EQ(state(kBegin + 30), "failed: SIGKILL; it is being started again");
  train(kBegin + 25, 151, 160);
  EXPECT_EQ(state(kBegin + 30), "running, last event 0:04 ago");
  attempts(std::string(kKilled) +
           R"-({"attempt":2,"started":"2026-01-01T00:00:24Z","seconds":3,"to_step":150,)-"
           R"-("end":"exit code 76 (a rank hangs)","next":"give up"})-" "\n");
  EXPECT_EQ(state(kBegin + 30), "failed: exit code 76 (a rank hangs); launch gave up");

  train(kBegin + 1000, 161, 170, true);
  EXPECT_EQ(state(kBegin + 1010), "ending");
  write_result(folder_ / "result.json", {.status = Result::kStopped, .reason = "signal"});
  EXPECT_EQ(state(kBegin + 1010), "stopped (signal) 0:09 ago, the same command goes on");
  train(kBegin + 2000, 171, 180);
  EXPECT_EQ(state(kBegin + 2010), "running, last event 0:09 ago");
  train(kBegin + 3000, 181, 190, true);
  write_result(folder_ / "result.json", {.reason = "early stop"});
  EXPECT_EQ(state(kBegin + 3010), "done (early stop) 0:09 ago");
  EXPECT_THAT(status(kBegin + 3010), testing::Not(HasSubstr("left")));
}

TEST_F(RunStatus, BeforeTheFirstStep) {
  train(kBegin, 1, 0);
  EXPECT_THAT(status(kBegin + 1), EndsWith(": running, last event 0:01 ago\n  no step recorded yet\n  checkpoint  none yet\n"));
  write(folder_ / "metrics.jsonl", "");
  EXPECT_EQ(state(kBegin), "nothing recorded yet");
}

TEST_F(RunStatus, WhatIsNoRunIsSaidInOneSentence) {
  const auto message_of = [](const fs::path& folder, ExitCode code) {
    try {
      run_status(folder, 0);
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), code);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  write(folder_ / "file", "");
  EXPECT_THAT(message_of(folder_ / "absent", ExitCode::io), EndsWith("absent' does not exist"));
  EXPECT_THAT(message_of(folder_ / "file", ExitCode::usage), HasSubstr("file' is not a folder"));
  EXPECT_THAT(message_of(folder_, ExitCode::usage), HasSubstr("' holds no metrics.jsonl"));
}

}  // namespace
}  // namespace tugline
