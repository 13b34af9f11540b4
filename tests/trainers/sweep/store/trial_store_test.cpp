// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/store/trial_store.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline::sweep {
namespace {

namespace fs = std::filesystem;

class ManualClock : public Clock {
 public:
  double seconds() const override { return now; }
  double now = 0;
};

class TrialStoreTest : public TemporaryFolder {
 protected:
  TrialStore store(const std::string& worker) { return TrialStore(real_files(), folder_, {worker, 10}, clock_); }
  ManualClock clock_;
};

TEST_F(TrialStoreTest, WhoeverLinksFirstHasTheJob) {
  TrialStore a = store("a"), b = store("b");
  EXPECT_EQ(a.next_number(), 0);
  EXPECT_EQ(b.next_number(), 0);
  const auto claim = b.append(0, "from b");
  ASSERT_TRUE(claim);
  EXPECT_FALSE(a.append(0, "from a"));
  EXPECT_TRUE(b.finish(*claim, {true, "42"}));
  a.refresh();
  ASSERT_EQ(a.size(), 1);
  EXPECT_EQ(a.job(0).decision, "from b");
  EXPECT_EQ(a.job(0).state, Job::State::ended);
  EXPECT_EQ(a.job(0).ends, (std::vector<AttemptEnd>{{true, "42"}}));
  EXPECT_EQ(a.next_number(), 1);
}

TEST_F(TrialStoreTest, ASilentWorkerLosesItsJobAndItsLateEndIsRefused) {
  TrialStore zombie = store("zombie"), heir = store("heir");
  const auto lost = zombie.append(0, "d");
  ASSERT_TRUE(lost);
  heir.refresh();
  EXPECT_FALSE(heir.can_be_taken(0));
  clock_.now = 9;
  zombie.beat();
  EXPECT_FALSE(heir.can_be_taken(0));
  clock_.now = 18;   // nine seconds after the heir saw the counter move
  EXPECT_FALSE(heir.can_be_taken(0));
  clock_.now = 20;
  ASSERT_TRUE(heir.can_be_taken(0));
  const auto claim = heir.take_over(0);
  ASSERT_TRUE(claim);
  EXPECT_EQ(claim->attempt, 2);
  EXPECT_FALSE(zombie.holds(*lost));
  EXPECT_FALSE(zombie.finish(*lost, {true, "late"}));
  EXPECT_TRUE(heir.finish(*claim, {true, "accepted"}));
  EXPECT_EQ(heir.job(0).ends, (std::vector<AttemptEnd>{{true, "accepted"}}));
}

TEST_F(TrialStoreTest, AnEndThatIsNotFinalOpensTheJobAndAnEndedOneCanBeReopened) {
  TrialStore a = store("a"), b = store("b");
  ASSERT_TRUE(a.finish(*a.append(0, "d"), {false, "preempted"}));
  b.refresh();
  EXPECT_EQ(b.job(0).state, Job::State::open);
  const auto claim = b.take_over(0);
  ASSERT_TRUE(claim && b.finish(*claim, {true, "crashed"}));
  EXPECT_FALSE(b.can_be_taken(0));
  EXPECT_TRUE(b.reopen(0, "somebody asked"));
  a.refresh();
  EXPECT_TRUE(a.can_be_taken(0));
}

/// Every byte of every entry, flipped and cut off: it is named, no other job suffers, and the job runs again.
TEST_F(TrialStoreTest, ADamagedEntryIsNamedAndOnlyItsJobRunsAgain) {
  {
    TrialStore writer = store("writer");
    for (int job = 0; job < 2; ++job) ASSERT_TRUE(writer.finish(*writer.append(job, "decision"), {true, "end"}));
  }
  std::vector<fs::path> entries;
  for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
    if (entry.is_regular_file() && entry.path().filename().string().starts_with("000000.")) entries.push_back(entry.path());
  }
  ASSERT_EQ(entries.size(), 2u);
  for (const fs::path& entry : entries) {
    std::ifstream in(entry, std::ios::binary);
    const std::string whole((std::istreambuf_iterator<char>(in)), {});
    for (std::size_t at = 0; at < whole.size(); ++at) {
      for (const bool flips : {true, false}) {
        std::string bad = flips ? whole : whole.substr(0, at);
        if (flips) bad[at] = static_cast<char>(bad[at] ^ 0x10);
        std::ofstream(entry, std::ios::binary) << bad;
        TrialStore reader = store("reader");
        reader.refresh();
        ASSERT_EQ(reader.size(), 2) << entry << " at " << at;
        EXPECT_THAT(reader.job(0).damage, testing::HasSubstr(entry.filename().string())) << at;
        EXPECT_EQ(reader.job(0).state, Job::State::damaged);
        EXPECT_TRUE(reader.can_be_taken(0));
        EXPECT_EQ(reader.job(1).state, Job::State::ended);
      }
    }
    std::ofstream(entry, std::ios::binary) << whole;
  }
}

/// Processes that are killed at any time: each number has one decision and one final end.
TEST_F(TrialStoreTest, KilledProcessesLoseNothing) {
  constexpr int kJobs = 64, kProcesses = 8;
  const auto work = [&] {
    TrialStore store(real_files(), folder_, {make_worker_id(), 0.3});
    while (true) {
      store.beat();
      store.refresh();
      bool busy = false;
      for (std::int64_t job = 0; job < store.size(); ++job) {
        busy = busy || store.job(job).state != Job::State::ended;
        if (!store.can_be_taken(job)) continue;
        if (const auto claim = store.take_over(job)) store.finish(*claim, {true, "again"});
      }
      if (store.size() < kJobs) {
        const std::int64_t number = store.next_number();
        if (number >= kJobs) continue;
        if (const auto claim = store.append(number, std::to_string(number))) store.finish(*claim, {true, "first"});
      } else if (!busy) {
        ::_exit(0);
      }
    }
  };
  const auto start = [&] {
    const pid_t pid = ::fork();
    if (pid == 0) work();
    return pid;
  };
  std::vector<pid_t> processes;
  for (int i = 0; i < kProcesses; ++i) processes.push_back(start());
  TrialStore watcher(real_files(), folder_, {make_worker_id(), 100});
  for (int killed = 0; killed < 20; ++killed) {   // spread over the progress
    while (watcher.next_number() < 3 * killed) ::usleep(1000);
    pid_t& victim = processes[static_cast<std::size_t>(killed % kProcesses)];
    ::kill(victim, SIGKILL);
    ::waitpid(victim, nullptr, 0);
    victim = start();
  }
  for (const pid_t pid : processes) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  watcher.refresh();
  ASSERT_EQ(watcher.size(), kJobs);
  std::set<std::string> decisions;
  for (std::int64_t job = 0; job < kJobs; ++job) {
    decisions.insert(watcher.job(job).decision);
    EXPECT_EQ(watcher.job(job).state, Job::State::ended);
    EXPECT_EQ(watcher.job(job).ends.size(), 1u);
  }
  EXPECT_EQ(decisions.size(), static_cast<std::size_t>(kJobs));
}

}  // namespace
}  // namespace tugline::sweep
