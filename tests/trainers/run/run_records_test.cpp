// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run/run_records.hpp"

#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <cmath>
#include <limits>

#include "tugline/core/error.hpp"
#include "tugline/core/metrics/event_log.hpp"
#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

class RunRecords : public TemporaryFolder {
 protected:
  std::filesystem::path file() const { return folder_ / "metrics.jsonl"; }
  /// Each event is one second after the one before.
  EventLog log() {
    return EventLog(file(), [this] { return time_ += 1; });
  }
  static StepRecord step(std::int64_t number) {
    StepRecord record;
    record.epoch = 2;
    record.step = number;
    record.total_steps = 20;
    record.loss = 0.1;
    record.accuracy = 0.75;
    record.lr = 0.05;
    record.gradient_norm = std::numeric_limits<double>::infinity();
    record.samples = 64;
    record.samples_per_second = 1000;
    record.seconds = {1, 2, 3, 4, 5};
    record.bytes_sent = 4096;
    record.ranks = {{40, 0.25, 0.5, 0.125}, {24, 0, 0.25, 0.25}};
    return record;
  }
  static std::vector<std::int64_t> numbers(const RecordedAttempt& attempt) {
    std::vector<std::int64_t> steps;
    for (const StepRecord& record : attempt.steps) steps.push_back(record.step);
    return steps;
  }
  double time_ = 1000;
};

TEST_F(RunRecords, ReadBackWhatTheLogWrote) {
  {
    EventLog events = log();
    events.event("start", {{"ranks", 2}});
    events.step(step(1));
    StepRecord plain = step(2);
    plain.accuracy.reset();
    plain.loss = std::nan("");
    events.step(plain);
    time_ += 5;
    events.evaluation({.split = "test", .epoch = 2, .step = 2, .loss = 0.25, .accuracy = 0.5, .samples = 100, .seconds = 0.5});
    events.event("balance", {{"from_step", 2}, {"shares", {44, 20}}, {"reason", "why"}});
    events.event("checkpoint", {{"file", "c"}, {"step", 2}});
  }
  const RecordedAttempt attempt = read_metrics(file(), 100);
  ASSERT_EQ(numbers(attempt), (std::vector<std::int64_t>{1, 2}));
  const StepRecord& first = attempt.steps[0];
  EXPECT_EQ(first.epoch, 2);
  EXPECT_EQ(first.total_steps, 20);
  EXPECT_EQ(first.loss, 0.1);
  EXPECT_EQ(first.accuracy, 0.75);
  EXPECT_TRUE(std::isinf(first.gradient_norm.value()));
  EXPECT_EQ(first.samples, 64);
  EXPECT_EQ(first.samples_per_second, 1000);
  EXPECT_EQ(first.seconds.exposed, 3);
  EXPECT_EQ(first.bytes_sent, 4096);
  ASSERT_EQ(first.ranks.size(), 2u);
  EXPECT_EQ(first.ranks[0].samples, 40);
  EXPECT_EQ(first.ranks[0].data_seconds, 0.25);
  EXPECT_EQ(first.ranks[0].compute_seconds, 0.5);
  EXPECT_EQ(first.ranks[0].cpu_seconds, 0.125);
  EXPECT_TRUE(std::isnan(attempt.steps[1].loss));
  EXPECT_EQ(attempt.steps[1].accuracy, std::nullopt);
  EXPECT_EQ(attempt.evaluations.at("test").accuracy, 0.5);
  EXPECT_EQ(attempt.balance->shares, (std::vector<std::int64_t>{44, 20}));
  EXPECT_EQ(attempt.balance->reason, "why");
  EXPECT_EQ(attempt.last_time, 1011);
  EXPECT_EQ(attempt.longest_gap, 6);
  EXPECT_FALSE(attempt.ended);
}

TEST_F(RunRecords, KeepTheNewestAttemptAndWhatItDidNotUndo) {
  {
    EventLog events = log();
    events.event("start", {});
    for (int i = 1; i <= 9; ++i) events.step(step(i));
    events.evaluation({.split = "train", .step = 5});
    events.evaluation({.split = "test", .step = 6});
    events.event("balance", {{"from_step", 8}, {"shares", {44, 20}}, {"reason", "undone"}});
    events.event("end", {});
    time_ += 500;   // between attempts
    events.event("start", {});
    events.event("resume", {{"checkpoint", "c"}, {"epoch", 2}, {"step", 5}});
  }
  const RecordedAttempt before = read_metrics(file(), 3);
  EXPECT_TRUE(before.steps.empty());
  EXPECT_EQ(before.resumed_at, 5);
  EXPECT_FALSE(before.ended);
  EXPECT_EQ(before.longest_gap, 1);

  log().event("balance", {{"from_step", 6}, {"shares", {32, 32}}, {"reason", "as the checkpoint left it"}});
  for (int i = 6; i <= 10; ++i) log().step(step(i));
  log().event("end", {});
  const RecordedAttempt after = read_metrics(file(), 3);
  EXPECT_EQ(numbers(after), (std::vector<std::int64_t>{8, 9, 10}));
  EXPECT_EQ(after.evaluations.size(), 1u);
  EXPECT_EQ(after.evaluations.count("train"), 1u);
  ASSERT_TRUE(after.balance);
  EXPECT_EQ(after.balance->reason, "as the checkpoint left it");
  EXPECT_TRUE(after.ended);
}

/// An attempt ends by a number that is not finite; the next goes on before what the first had evaluated last.
TEST_F(RunRecords, KeepTheValidationsThatStillCount) {
  for (int i = 1; i <= 6; ++i) {
    log().step(step(i));
    if (i % 2 == 0) log().evaluation({"validation", i / 2, i, 10.0 - i, {}, 5, 0.1});
  }
  log().event("nonfinite", {{"step", 7}});
  EXPECT_TRUE(read_metrics(file(), 1).nonfinite);
  log().event("start", {});
  log().event("spike", {{"step", 4}, {"next", "retry"}});
  EXPECT_FALSE(read_metrics(file(), 1).nonfinite);
  log().event("spike", {{"step", 4}, {"next", "stop"}});
  EXPECT_TRUE(read_metrics(file(), 1).nonfinite);
  log().event("start", {});
  log().step(step(5));
  log().evaluation({"validation", 3, 6, 1.5, {}, 5, 0.1});
  const RecordedAttempt attempt = read_metrics(file(), 1);
  EXPECT_FALSE(attempt.nonfinite);
  std::vector<double> losses;
  for (const EvalRecord& validation : attempt.validations) losses.push_back(validation.loss);
  EXPECT_EQ(losses, (std::vector<double>{8, 6, 1.5}));
}

TEST_F(RunRecords, SkipLinesThatDoNotParse) {
  log().step(step(1));
  const std::string good = read(file());
  // Torn by a crash and ended by the next attempt; of no use; of another kind; being written.
  const std::string useless = "\n[1]\n{\"time\":1}\n{\"time\":2,\"event\":\"step\",\"step\":9}\n{\"time\":3,\"event\":\"new\",\"x\":{}}\n";
  write(file(), good.substr(0, 90) + "\n" + useless + good + good.substr(0, good.size() - 3));
  EXPECT_EQ(numbers(read_metrics(file(), 100)), (std::vector<std::int64_t>{1}));
  EXPECT_THROW(read_metrics(folder_ / "absent", 100), IoError);
}

TEST_F(RunRecords, OfAnOlderTuglineHaveBusySecondsAlone) {
  write(file(), R"({"time":1,"event":"step","epoch":1,"step":1,"total_steps":0,"loss":1.0,"lr":0.1,"samples":3,)"
                R"("samples_per_second":1.0,)"
                R"("seconds":{"data":1.0,"compute":2.0,"exposed":3.0,"wait":4.0,"optimizer":5.0},"bytes_sent":0,"shares":[2,1],)"
                R"("busy_seconds":[0.5,0.25]})" "\n");
  const RecordedAttempt attempt = read_metrics(file(), 1);
  ASSERT_EQ(attempt.steps.size(), 1u);
  EXPECT_EQ(attempt.steps[0].ranks[1].busy_seconds(), 0.25);
  EXPECT_EQ(attempt.steps[0].ranks[1].cpu_seconds, 0);
}

TEST_F(RunRecords, OfAttempts) {
  EXPECT_TRUE(read_attempts(folder_ / "attempts.jsonl").empty());
  write(folder_ / "attempts.jsonl",
        R"({"attempt":1,"started":"1970-01-02T00:00:01Z","seconds":2.5,"ranks":2,"from_step":0,"to_step":7,"exit_code":137,)"
        R"("end":"SIGKILL","next":"restart"})"
        "\n{\"attempt\":2,\"star");
  const auto attempts = read_attempts(folder_ / "attempts.jsonl");
  ASSERT_EQ(attempts.size(), 1u);
  EXPECT_EQ(attempts[0].number, 1);
  EXPECT_EQ(attempts[0].ended_at, 86400 + 1 + 2.5);
  EXPECT_EQ(attempts[0].to_step, 7);
  EXPECT_EQ(attempts[0].end, "SIGKILL");
  EXPECT_EQ(attempts[0].next, "restart");
}

}  // namespace
}  // namespace tugline
