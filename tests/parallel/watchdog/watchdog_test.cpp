// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/watchdog/watchdog.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <mutex>
#include <thread>

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

void wait_in_step_4(int, Heartbeat& heartbeat) {
  heartbeat.begin_step(4);
  heartbeat.enter(Phase::waiting);
}

TEST(WatchdogTest, NamesTheRankThatComputesWhileTheOthersWait) {
  for (const int guilty : {0, 2}) {
    const std::string report = Hang().report(3, [&](int rank, Heartbeat& heartbeat) {
      heartbeat.begin_step(7);
      if (rank != guilty) heartbeat.enter(Phase::waiting);
    });
    EXPECT_THAT(first_line(report), HasSubstr("rank " + std::to_string(guilty) + " has been computing in step 7"));
    for (int rank = 0; rank < 3; ++rank) EXPECT_THAT(report, HasSubstr("\n  rank " + std::to_string(rank) + " has been"));
    EXPECT_THAT(report, HasSubstr("\n      ")) << "a stack";
  }
}

TEST(WatchdogTest, NamesTheRankThatDoesNotAnswer) {
  for (const int silent : {0, 1}) {
    const std::string report = Hang().report(3, &wait_in_step_4, silent);
    EXPECT_THAT(first_line(report), HasSubstr("rank " + std::to_string(silent) + " does not answer"));
  }
}

TEST(WatchdogTest, NamesRanksThatWaitForEachOther) {
  const auto apart = [](int rank, Heartbeat& heartbeat) {
    heartbeat.begin_step(4 + rank);
    heartbeat.enter(Phase::waiting);
  };
  EXPECT_THAT(Hang().report(2, apart), HasSubstr("rank 0 is at step 4 and rank 1 at step 5"));
  EXPECT_THAT(Hang().report(2, &wait_in_step_4), HasSubstr("parallel.debug"));
}

class Manual final : public Clock {
 public:
  double seconds() const override {
    ++reads;
    return now.load();
  }
  std::atomic<double> now{5};
  mutable std::atomic<int> reads{0};   // a watchdog that looks reads it
};

/// Default limits, by a clock that is turned by hand.
TEST(WatchdogTest, IsPatientWhereItShouldBe) {
  Manual clock, other_clock;   // each heartbeat has its own, so that looks of each watchdog can be counted
  Heartbeat busy(other_clock), waiting(clock);
  std::promise<std::string> said;
  std::atomic<bool> spoke{false};
  run_thread_team(2, [&](std::unique_ptr<Communicator> communicator) {
    Heartbeat& mine = communicator->rank() == 0 ? waiting : busy;
    WatchdogOptions options;
    options.on_hang = [&](const std::string& text) {
      if (!spoke.exchange(true)) said.set_value(text);
    };
    const Watchdog watchdog(communicator->duplicate(), mine, options);
    communicator->barrier();
    if (communicator->rank() == 0) {
      const auto later = [&](double seconds) {
        clock.now = other_clock.now = clock.now + seconds;
        const int looks = clock.reads + 8, other_looks = other_clock.reads + 8;
        while (!spoke && (clock.reads < looks || other_clock.reads < other_looks)) std::this_thread::yield();
        return spoke.load();
      };
      waiting.begin_step(1);
      busy.begin_step(1);
      waiting.enter(Phase::waiting);
      EXPECT_FALSE(later(1000)) << "the first step may take long";
      waiting.end_step();
      busy.end_step();
      waiting.begin_step(2);
      busy.begin_step(2);
      waiting.enter(Phase::waiting);
      busy.end_step();
      busy.enter(Phase::checkpoint);
      EXPECT_FALSE(later(1700)) << "so may saving, and who waits for it is not late";
      busy.enter(Phase::compute);
      EXPECT_FALSE(later(19000)) << "20 times the longest step, which was 1000 s";
      later(2000);
      EXPECT_THAT(said.get_future().get(), HasSubstr("hang: rank 1 has been computing in step 2"));
    }
    communicator->barrier();
  });
}

TEST(HeartbeatTest, RemembersTheLongestStep) {
  Manual clock;
  Heartbeat heartbeat(clock);
  EXPECT_EQ(heartbeat.longest_step(), 0);
  heartbeat.begin_step(1);
  heartbeat.enter(Phase::data);
  clock.now = clock.now + 2;
  heartbeat.enter(Phase::waiting);
  clock.now = clock.now + 1;
  EXPECT_EQ(heartbeat.longest_step(), 0) << "it has not ended";
  heartbeat.end_step();
  EXPECT_EQ(heartbeat.longest_step(), 3);
  heartbeat.enter(Phase::evaluation);
  clock.now = clock.now + 30;
  heartbeat.begin_step(2);
  heartbeat.end_step();
  EXPECT_EQ(heartbeat.longest_step(), 3);
  EXPECT_EQ(heartbeat.now().step, 2);
}

TEST(ThreadStack, SaysWhereAnotherThreadWaits) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer keeps signals from a thread that waits";
#endif
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
