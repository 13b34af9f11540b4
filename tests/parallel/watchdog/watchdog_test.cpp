// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/watchdog/watchdog.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <mutex>

#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/parallel/watchdog/heartbeat.hpp"
#include "tugline/parallel/watchdog/thread_stack.hpp"

namespace tugline {
namespace {

using testing::HasSubstr;

/// Ranks that are threads; the first report ends them all.
class Hang {
 public:
  /// `body` makes the rank do something before it stands still. `silent`: a rank without a watchdog.
  std::string report(int ranks, const std::function<void(int rank, Heartbeat&)>& body, int silent = -1) {
    auto reported = report_.get_future().share();
    run_thread_team(ranks, [&](std::unique_ptr<Communicator> communicator) {
      const int rank = communicator->rank();
      Heartbeat heartbeat;
      std::unique_ptr<Communicator> channel = communicator->duplicate();
      std::unique_ptr<Watchdog> watchdog;
      WatchdogOptions options;
      options.seconds = 0.3;
      options.on_hang = [&](const std::string& text) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!said_) report_.set_value(text);
        said_ = true;
      };
      body(rank, heartbeat);
      if (rank != silent) watchdog = std::make_unique<Watchdog>(std::move(channel), heartbeat, options);
      reported.wait_for(std::chrono::seconds(20));
      communicator->barrier();
    });
    const std::lock_guard<std::mutex> lock(mutex_);
    return said_ ? reported.get() : "";
  }

 private:
  std::mutex mutex_;
  std::promise<std::string> report_;
  bool said_ = false;
};

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

TEST(WatchdogTest, NamesTheRankThatComputesWhileTheOthersWait) {
  for (const int guilty : {0, 2}) {
    const std::string report = Hang().report(3, [&](int rank, Heartbeat& heartbeat) {
      heartbeat.enter(rank == guilty ? Phase::compute : Phase::exchange, 7);
    });
    EXPECT_THAT(first_line(report), HasSubstr("rank " + std::to_string(guilty) + " has been computing in step 7"));
    for (int rank = 0; rank < 3; ++rank) EXPECT_THAT(report, HasSubstr("\n  rank " + std::to_string(rank) + " has been"));
    EXPECT_THAT(report, HasSubstr("watchdog_test")) << "a stack, by name or by address";
  }
}

TEST(WatchdogTest, NamesTheRankThatDoesNotAnswer) {
  for (const int silent : {0, 1}) {
    const std::string report = Hang().report(3, [](int, Heartbeat& heartbeat) { heartbeat.enter(Phase::exchange, 4); }, silent);
    EXPECT_THAT(first_line(report), HasSubstr("rank " + std::to_string(silent) + " does not answer"));
  }
}

TEST(WatchdogTest, NamesRanksThatWaitForEachOther) {
  EXPECT_THAT(Hang().report(2, [](int rank, Heartbeat& heartbeat) { heartbeat.enter(Phase::exchange, 4 + rank); }),
              HasSubstr("rank 0 is at step 4 and rank 1 at step 5"));
  EXPECT_THAT(Hang().report(2, [](int, Heartbeat& heartbeat) { heartbeat.enter(Phase::exchange, 4); }), HasSubstr("parallel.debug"));
}

TEST(WatchdogTest, SaysNothingOfARankThatMovesOrIsIdle) {
  std::promise<void> said;
  Heartbeat moving, idle;
  WatchdogOptions options;
  options.seconds = 0.3;
  options.on_hang = [&](const std::string&) { said.set_value(); };
  run_thread_team(1, [&](std::unique_ptr<Communicator> communicator) {
    const Watchdog one(communicator->duplicate(), moving, options), other(communicator->duplicate(), idle, options);
    auto silence = said.get_future();
    for (int i = 0; i < 20; ++i) {
      moving.enter(Phase::compute, i);
      EXPECT_EQ(silence.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
    }
    moving.enter(Phase::idle);
  });
}

TEST(HeartbeatTest, RemembersTheLongestOfEachKind) {
  class Manual final : public Clock {
   public:
    double seconds() const override { return now; }
    double now = 5;
  } clock;
  Heartbeat heartbeat(clock);
  const auto spend = [&](Phase phase, double seconds) {
    heartbeat.enter(phase, 1);
    clock.now += seconds;
  };
  spend(Phase::compute, 2);
  spend(Phase::evaluation, 30);
  spend(Phase::exchange, 1);
  heartbeat.enter(Phase::idle);
  EXPECT_EQ(heartbeat.longest(Phase::data), 2) << "of a step, as computing is";
  EXPECT_EQ(heartbeat.longest(Phase::evaluation), 30);
  EXPECT_EQ(heartbeat.longest(Phase::checkpoint), 0);
}

TEST(ThreadStack, SaysWhereAnotherThreadWaits) {
  std::promise<void> there, go;
  std::thread other([&] {
    there.set_value();
    go.get_future().wait();
  });
  there.get_future().wait();
  EXPECT_THAT(stack_of(other.native_handle()), HasSubstr("\n")) << "more than a line";
  go.set_value();
  other.join();
}

}  // namespace
}  // namespace tugline
