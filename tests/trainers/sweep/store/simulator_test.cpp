// SPDX-License-Identifier: Apache-2.0
// The real store on a file system that is late, loses replies, is full and fails, among clients that die and that wake after their lease.
// TUGLINE_SCHEDULES: how many seeded schedules (300).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <set>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/tests/trainers/sweep/store/shim.hpp"
#include "tugline/tests/trainers/sweep/store/sound_chain.hpp"
#include "tugline/trainers/sweep/store/trial_store.hpp"

namespace tugline::sweep {
namespace {

constexpr std::int64_t kJobs = 6;
constexpr int kClients = 4;
constexpr std::int64_t kMostReopened = 2;
constexpr double kLease = 4;
constexpr std::int64_t kMostSteps = 100'000;

/// What the programs of one schedule were told by the store.
struct Ledger {
  std::vector<Claim> claims;
  std::vector<std::pair<std::int64_t, std::string>> accepted, refused;   // job and content
  std::map<std::string, int> made_decisions;
  std::int64_t names = 0, reopened = 0, taken = 0;
};

/// Until the file system lets it.
template <class Call>
auto persist(Call call) {
  while (true) {
    try {
      return call();
    } catch (const IoError&) {
    }
  }
}

class Worker {
 public:
  Worker(Ledger& ledger, Files& files, const Clock& clock, Random& random)
      : ledger_(ledger), files_(files), random_(random), name_(fmt::format("w{}", ledger.names++)),
        store_(files, "/sweep", {.worker = name_, .lease_seconds = kLease}, clock) {}

  void work() {
    while (true) {
      try {
        if (round()) return;
      } catch (const IoError&) {
      }
      files_.wait(0.1);
    }
  }

 private:
  /// True when all jobs have ended.
  bool round() {
    store_.beat();
    store_.refresh();
    bool all_ended = store_.size() >= kJobs;
    for (std::int64_t number = 0; number < store_.size(); ++number) {
      if (store_.can_be_taken(number)) {
        if (const auto claim = store_.take_over(number)) attempt(*claim);
      }
      all_ended = all_ended && store_.job(number).state == Job::State::ended;
    }
    if (all_ended) return random_.below(3) != 0 || ledger_.reopened >= kMostReopened || !reopen();
    const std::int64_t number = store_.size();
    if (number >= kJobs) return false;
    const std::string decision = fmt::format("{} by {}", number, name_);
    if (const auto claim = store_.append(number, decision)) attempt(*claim);
    return false;
  }

  bool reopen() {
    if (!store_.reopen(static_cast<std::int64_t>(random_.below(kJobs)), "again")) return false;
    ++ledger_.reopened;
    return true;
  }

  void attempt(const Claim& claim) {
    ledger_.claims.push_back(claim);
    for (std::uint64_t i = random_.below(5); i > 0; --i) {
      files_.wait(random_.uniform());
      try {
        store_.beat();
      } catch (const IoError&) {
      }
    }
    const AttemptEnd end{.final = random_.below(4) != 0, .content = fmt::format("{} {} {}", claim.job, claim.attempt, name_)};
    const bool accepted = persist([&] { return store_.finish(claim, end); });
    (accepted ? ledger_.accepted : ledger_.refused).emplace_back(claim.job, end.content);
  }

  Ledger& ledger_;
  Files& files_;
  Random& random_;
  std::string name_;
  TrialStore store_;
};

void check(Shim& shim, const Ledger& ledger) {
  Files& files = shim.calm_files();
  TrialStore store(files, "/sweep", {.worker = "reader"});
  store.refresh();
  ASSERT_EQ(store.size(), kJobs);
  std::set<std::string> decisions;
  for (std::int64_t number = 0; number < kJobs; ++number) {
    const Job& job = store.job(number);
    decisions.insert(job.decision);
    expect_sound(files, "/sweep", job);
  }
  EXPECT_EQ(decisions.size(), kJobs);
  std::set<std::pair<std::int64_t, int>> attempts;
  for (const Claim& claim : ledger.claims) {
    EXPECT_TRUE(attempts.insert({claim.job, claim.attempt}).second) << "two hold attempt " << claim.attempt << " of job " << claim.job;
  }
  const auto count = [&](std::int64_t number, const std::string& content) {
    const auto& ends = store.job(number).ends;
    return std::count_if(ends.begin(), ends.end(), [&](const AttemptEnd& end) { return end.content == content; });
  };
  for (const auto& [number, content] : ledger.accepted) EXPECT_EQ(count(number, content), 1) << content << " was accepted";
  for (const auto& [number, content] : ledger.refused) EXPECT_EQ(count(number, content), 0) << content << " was refused";
}

TEST(Simulator, SchedulesKeepTheInvariants) {
  const char* const wish = std::getenv("TUGLINE_SCHEDULES");
  const int schedules = wish != nullptr ? std::atoi(wish) : 300;
  FaultCounts faults{};
  std::int64_t taken = 0, refused = 0, reopened = 0;
  for (int seed = 0; seed < schedules && !HasFailure(); ++seed) {
    SCOPED_TRACE(fmt::format("schedule {}", seed));
    Shim shim(static_cast<std::uint64_t>(seed));
    Ledger ledger;
    const Shim::Program program = [&](Files& files, const Clock& clock, Random& random) {
      Worker(ledger, files, clock, random).work();
    };
    ASSERT_TRUE(shim.run(std::vector(kClients, program), kMostSteps)) << "no end in sight";
    ledger.reopened += kMostReopened;
    Random random(0, Purpose::search);
    Worker(ledger, shim.calm_files(), shim.calm_clock(), random).work();   // all may have left before they could see a job opened again
    ledger.reopened -= kMostReopened;
    check(shim, ledger);
    for (std::size_t i = 0; i < faults.size(); ++i) faults[i] += shim.faults()[i];
    refused += static_cast<std::int64_t>(ledger.refused.size());
    reopened += ledger.reopened;
    taken += std::count_if(ledger.claims.begin(), ledger.claims.end(), [](const Claim& claim) { return claim.attempt > 1; });
  }
  std::cout << schedules << " schedules: " << taken << " further attempts, " << refused << " late ends refused, " << reopened
            << " reopened";
  for (std::size_t i = 0; i < faults.size(); ++i) {
    std::cout << ", " << faults[i] << " x " << kFaultNames[i];
    EXPECT_GT(faults[i], 0) << kFaultNames[i] << " never happened";
  }
  std::cout << std::endl;
  EXPECT_GT(taken, 0);
  EXPECT_GT(refused, 0);
  EXPECT_GT(reopened, 0);
}

}  // namespace
}  // namespace tugline::sweep
