// SPDX-License-Identifier: Apache-2.0
// Real processes on a real file system, killed and stopped at any moment. TUGLINE_KILLS: how many of them (100).
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <set>

#include "tugline/core/error.hpp"
#include "tugline/core/random.hpp"
#include "tugline/tests/support/temporary_folder.hpp"
#include "tugline/tests/trainers/sweep/store/sound_chain.hpp"

namespace tugline::sweep {
namespace {

constexpr double kLease = 0.5;

struct Message {
  enum Kind { claimed, accepted, refused, left } kind;
  pid_t process;
  std::int64_t job;
  int attempt;
};

/// What a child process does: claims, beats while it works for some milliseconds, and ends, until all jobs have ended.
class Worker {
 public:
  Worker(std::filesystem::path folder, std::int64_t jobs, int pipe)
      : jobs_(jobs), pipe_(pipe), store_(real_files(), std::move(folder), {.worker = make_worker_id(), .lease_seconds = kLease}) {}

  void work() {
    while (!round()) real_files().wait(0.02);
    tell(Message::left, {});
  }

 private:
  bool round() {
    store_.refresh();
    bool all_ended = store_.size() == jobs_;
    for (std::int64_t number = 0; number < store_.size(); ++number) {
      if (store_.job(number).state == Job::State::ended) continue;
      all_ended = false;
      if (!store_.can_be_taken(number)) continue;
      if (const auto claim = store_.take_over(number)) attempt(*claim);
    }
    const std::int64_t number = store_.size();
    if (number >= jobs_) return all_ended;
    if (const auto claim = store_.append(number, fmt::format("point {}", number))) attempt(*claim);
    return false;
  }

  void attempt(const Claim& claim) {
    tell(Message::claimed, claim);
    for (std::int64_t i = (claim.job + claim.attempt) % 8; i > 0; --i) {
      store_.beat();
      real_files().wait(0.002);
    }
    const bool accepted = store_.finish(claim, {.final = true, .content = fmt::format("{} {}", claim.attempt, ::getpid())});
    tell(accepted ? Message::accepted : Message::refused, claim);
  }

  void tell(Message::Kind kind, const Claim& claim) {
    const Message message{kind, ::getpid(), claim.job, claim.attempt};
    if (::write(pipe_, &message, sizeof message) != sizeof message) ::_exit(1);
  }

  std::int64_t jobs_;
  int pipe_;
  TrialStore store_;
};

struct Plan {
  int workers;
  std::int64_t jobs;
  int kills, zombies;
};

/// Starts workers, reads what they tell, and as they get on kills some, each replaced by a new one, and stops some.
class Crowd {
 public:
  Crowd(std::filesystem::path folder, const Plan& plan) : folder_(std::move(folder)), plan_(plan), random_(17, Purpose::search) {
    if (::pipe(pipe_) != 0) throw Error("no pipe");
    for (int i = 0; i < plan.workers; ++i) start();
  }
  ~Crowd() {
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }

  void run() {
    Message message;
    while (!running_.empty() && ::read(pipe_[0], &message, sizeof message) == sizeof message) {
      note(message);
      if (told_.size() * static_cast<std::size_t>(plan_.kills) > static_cast<std::size_t>(killed * plan_.jobs)) kill_one();
      if (told_.size() * static_cast<std::size_t>(plan_.zombies) > static_cast<std::size_t>(stopped * plan_.jobs)) stop_one();
    }
    for (const pid_t process : started_) {
      int status = 0;
      ::kill(process, SIGKILL);
      ::waitpid(process, &status, 0);
      if (WIFEXITED(status) && WEXITSTATUS(status) != 0) ++failed;
    }
  }

  int failed = 0, killed = 0, stopped = 0, refused = 0;
  std::multimap<std::int64_t, std::string> accepted;   // job and content, as the workers were told

 private:
  void start() {
    const pid_t process = ::fork();
    if (process == 0) {
      int code = 0;
      try {
        Worker(folder_, plan_.jobs, pipe_[1]).work();
      } catch (const std::exception& error) {
        std::cerr << error.what() << std::endl;
        code = 1;
        const Message leaving{Message::left, ::getpid(), 0, 0};
        (void)!::write(pipe_[1], &leaving, sizeof leaving);
      }
      ::_exit(code);
    }
    started_.push_back(process);
    running_.push_back(process);
  }

  void note(const Message& message) {
    if (message.kind == Message::left) std::erase(running_, message.process);
    if (message.kind == Message::claimed) told_.insert(message.job);
    if (message.kind == Message::refused) ++refused;
    if (message.kind == Message::accepted) accepted.emplace(message.job, fmt::format("{} {}", message.attempt, message.process));
    // A stopped one is woken by its job's end, which another brought about: it then says how its own attempt ended, too late.
    const auto zombie = zombies_.find(message.job);
    if (message.kind == Message::accepted && zombie != zombies_.end() && zombie->second != message.process) {
      ::kill(zombie->second, SIGCONT);
      running_.push_back(zombie->second);
      zombies_.erase(zombie);
    }
    if (message.kind == Message::claimed) claims_[message.process] = message.job;
    if (message.kind == Message::accepted || message.kind == Message::refused) claims_.erase(message.process);
  }

  void kill_one() {
    const pid_t process = running_[random_.below(running_.size())];
    ::kill(process, SIGKILL);
    std::erase(running_, process);
    claims_.erase(process);
    ++killed;
    start();
  }

  /// One that has a claim, so far as is known.
  void stop_one() {
    for (const auto& [process, job] : claims_) {
      if (std::find(running_.begin(), running_.end(), process) == running_.end() || zombies_.contains(job)) continue;
      ::kill(process, SIGSTOP);
      ++stopped;
      // It may have ended the job meanwhile, then nobody will: it is woken by its own message, and has only slept.
      zombies_.emplace(job, process);
      std::erase(running_, process);
      return;
    }
  }

  std::filesystem::path folder_;
  Plan plan_;
  Random random_;
  int pipe_[2];
  std::vector<pid_t> started_, running_;
  std::map<pid_t, std::int64_t> claims_;      // by the worker's word
  std::map<std::int64_t, pid_t> zombies_;     // by job
  std::set<std::int64_t> told_;               // jobs that were claimed
};

class Processes : public TemporaryFolder {
 protected:
  /// Every job has one result, in one decision each; what a worker was told to be accepted is that result.
  void expect_exact(const Plan& plan) {
    Crowd crowd(folder_, plan);
    crowd.run();
    TrialStore store(real_files(), folder_, {.worker = "reader"});
    store.refresh();
    ASSERT_EQ(store.size(), plan.jobs);
    std::set<std::string> decisions;
    int attempts = 0;
    for (std::int64_t number = 0; number < plan.jobs; ++number) {
      const Job& job = store.job(number);
      expect_sound(real_files(), folder_, job);
      ASSERT_EQ(job.ends.size(), 1u);
      decisions.insert(job.decision);
      attempts += job.attempts;
      EXPECT_LE(crowd.accepted.count(number), 1u);
      for (auto [at, end] = crowd.accepted.equal_range(number); at != end; ++at) EXPECT_EQ(at->second, job.ends[0].content);
    }
    EXPECT_EQ(static_cast<std::int64_t>(decisions.size()), plan.jobs);
    EXPECT_EQ(crowd.failed, 0);
    EXPECT_EQ(crowd.killed, plan.kills);
    EXPECT_EQ(crowd.stopped, plan.zombies);
    std::cout << plan.workers << " workers, " << crowd.killed << " killed, " << crowd.stopped << " stopped: " << plan.jobs << " jobs in "
              << attempts << " attempts, " << crowd.refused << " late ends refused" << std::endl;
  }
};

TEST_F(Processes, KillsAndZombiesLoseAndDoubleNothing) {
  const char* const wish = std::getenv("TUGLINE_KILLS");
  const int kills = wish != nullptr ? std::atoi(wish) : 100;
  expect_exact({.workers = 64, .jobs = 5 * kills, .kills = kills, .zombies = kills / 10});
}

TEST_F(Processes, AGridIsRunOnceByFew) { expect_exact({.workers = 8, .jobs = 64, .kills = 16, .zombies = 2}); }
TEST_F(Processes, AGridIsRunOnceByMany) { expect_exact({.workers = 64, .jobs = 64, .kills = 16, .zombies = 2}); }

}  // namespace
}  // namespace tugline::sweep
