// SPDX-License-Identifier: Apache-2.0
// Every file of a small store cut at every byte, and every bit of it turned over.
#include <gtest/gtest.h>

#include <map>

#include <fmt/format.h>

#include "tugline/tests/trainers/sweep/store/shim.hpp"
#include "tugline/tests/trainers/sweep/store/sound_chain.hpp"
#include "tugline/trainers/sweep/store/frame.hpp"

namespace tugline::sweep {
namespace {

using Contents = std::map<std::string, std::string>;   // by path

class StillClock final : public Clock {
 public:
  double seconds() const override { return now; }
  double now = 1;
};

const std::filesystem::path kFolder = "/sweep";
constexpr std::int64_t kJobs = 3;

/// Job 0 has ended; job 1 has paused, was taken up, has ended, was opened again and has ended again; job 2 is running.
Contents whole_store() {
  Shim shim(0);
  Files& files = shim.calm_files();
  TrialStore store(files, kFolder, {.worker = "w"});
  EXPECT_TRUE(store.finish(*store.append(0, "decision 0"), {.final = true, .content = "result 0"}));
  EXPECT_TRUE(store.finish(*store.append(1, "decision 1"), {.final = false, .content = "paused 1"}));
  EXPECT_TRUE(store.finish(store.take_over(1).value(), {.final = true, .content = "result 1"}));
  EXPECT_TRUE(store.reopen(1, "why"));
  EXPECT_TRUE(store.finish(store.take_over(1).value(), {.final = true, .content = "result 1 again"}));
  EXPECT_TRUE(store.append(2, "decision 2"));
  Contents contents;
  for (const char* folder : {"jobs/000", "again", "workers", "tmp"}) {
    for (const std::string& name : files.list(kFolder / folder)) contents[kFolder / folder / name] = *files.read(kFolder / folder / name);
  }
  contents[kFolder / "journal"] = files.read(kFolder / "journal").value();
  return contents;
}

bool same(const Job& a, const Job& b) {
  return a.state == b.state && a.decision == b.decision && a.attempts == b.attempts && a.worker == b.worker && a.ends == b.ends &&
         a.length == b.length && a.damage == b.damage;
}

class DamagedStore : public testing::Test {
 protected:
  /// Opens the store with one file so: only its job may be other than it was, the file is named, and the job can be run to its end again.
  void expect_named_and_run_again(const std::string& file, const std::string& text) {
    Shim shim(0);
    Files& files = shim.calm_files();
    for (const auto& [path, content] : contents_) files.write_new(path, path == file ? text : content);
    TrialStore store(files, kFolder, {.worker = "other"});
    store.refresh();
    ASSERT_EQ(store.size(), kJobs);
    for (std::int64_t number = 0; number < kJobs; ++number) {
      const Job job = store.job(number);
      if (!file.starts_with(entry(number, ""))) {
        ASSERT_TRUE(same(job, whole_.at(static_cast<std::size_t>(number)))) << "job " << number;
        continue;
      }
      ASSERT_TRUE(job.damage.starts_with(file + " ")) << job.damage;
      if (job.state == Job::State::ended) continue;   // later entries say how it went on
      ASSERT_EQ(job.state, Job::State::damaged);
      ASSERT_TRUE(store.can_be_taken(number));
      ASSERT_EQ(job.decision.empty(), file == entry(number, "0"));
      const auto claim = job.decision.empty() ? store.take_over(number, "new decision") : store.take_over(number);
      ASSERT_TRUE(claim);
      ASSERT_GT(claim->attempt, whole_.at(static_cast<std::size_t>(number)).attempts);
      ASSERT_TRUE(store.finish(*claim, {.final = true, .content = "new"}));
      TrialStore reader(files, kFolder, {.worker = "reader"});
      reader.refresh();
      ASSERT_EQ(reader.job(number).state, Job::State::ended);
      ASSERT_EQ(reader.job(number).ends.back().content, "new");
      ASSERT_FALSE(reader.job(number).decision.empty());
      ++ran_again_;
    }
  }

  static std::string entry(std::int64_t number, const std::string& position) {
    return kFolder / fmt::format("jobs/000/{:06}.{}", number, position);
  }

  void SetUp() override {
    Shim shim(0);
    for (const auto& [path, content] : contents_) shim.calm_files().write_new(path, content);
    TrialStore store(shim.calm_files(), kFolder, {.worker = "other"});
    store.refresh();
    for (std::int64_t number = 0; number < kJobs; ++number) whole_.push_back(store.job(number));
  }

  template <class Damage>
  void for_each_entry(Damage damage) {
    for (const auto& [path, content] : contents_) {
      if (path.find("/jobs/") == path.npos) continue;
      SCOPED_TRACE(path);
      damage(path, content);
      if (HasFatalFailure()) return;
    }
    EXPECT_GT(ran_again_, 0);
  }

  const Contents contents_ = whole_store();
  std::vector<Job> whole_;
  int ran_again_ = 0;
};

TEST_F(DamagedStore, CutAtEveryByte) {
  for_each_entry([&](const std::string& path, const std::string& content) {
    for (std::size_t length = 0; length < content.size(); ++length) {
      SCOPED_TRACE(length);
      ASSERT_NO_FATAL_FAILURE(expect_named_and_run_again(path, content.substr(0, length)));
    }
  });
}

TEST_F(DamagedStore, EveryBitTurnedOver) {
  for_each_entry([&](const std::string& path, const std::string& content) {
    for (std::size_t bit = 0; bit < 8 * content.size(); ++bit) {
      SCOPED_TRACE(bit);
      std::string damaged = content;
      damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
      ASSERT_NO_FATAL_FAILURE(expect_named_and_run_again(path, damaged));
    }
  });
}

TEST_F(DamagedStore, AnEntryOfAnotherJobIsNotTaken) {
  expect_named_and_run_again(entry(0, "1"), contents_.at(entry(1, "1")));
}

/// One process could not read what another can: who reads it learns that it no longer counts.
TEST_F(DamagedStore, AResultThatWasVoidedIsVoidForAll) {
  Shim shim(0);
  Files& files = shim.calm_files();
  for (const auto& [path, content] : contents_) files.write_new(path, content);
  TrialStore sees(files, kFolder, {.worker = "sees"});
  sees.refresh();
  files.remove(entry(0, "1"));
  files.write_new(entry(0, "1"), "broken");
  TrialStore blind(files, kFolder, {.worker = "blind"});
  blind.refresh();
  const auto claim = blind.take_over(0);
  ASSERT_TRUE(claim && blind.finish(*claim, {.final = true, .content = "new"}));
  files.remove(entry(0, "1"));
  files.write_new(entry(0, "1"), contents_.at(entry(0, "1")));
  for (TrialStore* store : {&sees, &blind}) {
    store->refresh();
    ASSERT_EQ(store->job(0).ends.size(), 1u);
    EXPECT_EQ(store->job(0).ends[0].content, "new");
    EXPECT_EQ(store->job(0).state, Job::State::ended);
  }
}

/// A file server that forgot a claim which it had said was durable: the end of that attempt does not pass for the new one's.
TEST_F(DamagedStore, AnEndDoesNotPassForAnothersAttempt) {
  Shim shim(0);
  Files& files = shim.calm_files();
  TrialStore forgotten(files, kFolder, {.worker = "forgotten"}), second(files, kFolder, {.worker = "second"});
  const auto old = forgotten.append(0, "old");
  files.remove(entry(0, "0"));
  const auto claim = second.append(0, "new");
  ASSERT_TRUE(old && claim);
  forgotten.finish(*old, {.final = true, .content = "of the old"});
  EXPECT_FALSE(second.finish(*claim, {.final = true, .content = "of the new"}));
  second.refresh();
  EXPECT_EQ(second.job(0).state, Job::State::damaged);
  EXPECT_EQ(second.job(0).damage, "/sweep/jobs/000/000000.1 ends attempt 1 of forgotten, but second holds the job for attempt 1");
  EXPECT_TRUE(second.take_over(0));
}

/// Who follows with its help knows what a reader of all files knows.
TEST_F(DamagedStore, AJournalCutOrFlippedAnywhereHidesNothing) {
  const std::string journal = contents_.at(kFolder / "journal");
  const auto expect_all_with = [&](const std::string& text) {
    Shim shim(0);
    Files& files = shim.calm_files();
    files.write_new(entry(0, "0"), contents_.at(entry(0, "0")));
    TrialStore follower(files, kFolder, {.worker = "other"});
    follower.refresh();   // the journal is empty now
    for (const auto& [path, content] : contents_) {
      if (path != entry(0, "0")) files.write_new(path, path == kFolder / "journal" ? text : content);
    }
    follower.refresh();
    ASSERT_EQ(follower.size(), kJobs);
    for (std::int64_t number = 0; number < kJobs; ++number) ASSERT_TRUE(same(follower.job(number), whole_.at(static_cast<std::size_t>(number))));
  };
  for (std::size_t length = 0; length <= journal.size(); ++length) ASSERT_NO_FATAL_FAILURE(expect_all_with(journal.substr(0, length)));
  for (std::size_t bit = 0; bit < 8 * journal.size(); ++bit) {
    std::string damaged = journal;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    ASSERT_NO_FATAL_FAILURE(expect_all_with(damaged));
  }
}

TEST(Frame, HasTheChecksumOfTheStandard) { EXPECT_EQ(frame("123456789"), "tugline 1 0000000009 e3069283\n123456789"); }

TEST(HeartbeatLog, CutOrFlippedAnywhereStillShowsARecordAndTheNextBeat) {
  std::string log;
  std::vector<std::size_t> ends;
  for (int i = 1; i <= 4; ++i) {
    log += frame(fmt::format("{}\n", i));
    ends.push_back(log.size());
  }
  const std::string next = frame("5\n");
  for (std::size_t length = 0; length <= log.size(); ++length) {
    const auto whole = std::upper_bound(ends.begin(), ends.end(), length) - ends.begin();
    EXPECT_EQ(newest_frame(log.substr(0, length)), whole == 0 ? "" : fmt::format("{}\n", whole));
    EXPECT_EQ(newest_frame(log.substr(0, length) + next), "5\n");
  }
  for (std::size_t bit = 0; bit < 8 * log.size(); ++bit) {
    std::string damaged = log;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    EXPECT_EQ(newest_frame(damaged), bit / 8 < ends[2] ? "4\n" : "3\n");
    EXPECT_EQ(newest_frame(damaged + next), "5\n");
  }
}

TEST(JournalLog, CutOrFlippedAnywhereShowsEveryWholeRecordOnce) {
  std::string log;
  std::vector<std::string> all;
  std::vector<std::size_t> ends;
  for (int i = 1; i <= 3; ++i) {
    all.push_back(fmt::format("{} tugline 1 {}\n", i, i));
    log += frame(all.back());
    ends.push_back(log.size());
  }
  const auto read_on = [](std::string_view text, std::size_t& at) {
    std::vector<std::string> read;
    while (const auto payload = next_frame(text, at)) read.emplace_back(*payload);
    return read;
  };
  for (std::size_t length = 0; length <= log.size(); ++length) {
    std::size_t at = 0;
    std::vector<std::string> read = read_on(std::string_view(log).substr(0, length), at);
    for (const std::string& later : read_on(log, at)) read.push_back(later);
    EXPECT_EQ(read, all) << "what is not whole yet is read when it is: " << length;
  }
  for (std::size_t bit = 0; bit < 8 * log.size(); ++bit) {
    std::string damaged = log;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    std::vector<std::string> rest = all;
    rest.erase(rest.begin() + (std::upper_bound(ends.begin(), ends.end(), bit / 8) - ends.begin()));
    std::size_t at = 0;
    EXPECT_EQ(read_on(damaged, at), rest) << "bit " << bit;
  }
}

/// A damaged log costs a live worker no job: its next beat shows.
TEST_F(DamagedStore, ABrokenHeartbeatLogIsNoDeath) {
  const std::string log = kFolder / "workers/w";
  for (std::size_t length = 0; length <= contents_.at(log).size(); ++length) {
    Shim shim(0);
    Files& files = shim.calm_files();
    StillClock clock;
    TrialStore live(files, kFolder, {.worker = "live", .lease_seconds = 10}, clock);
    TrialStore watcher(files, kFolder, {.worker = "watcher", .lease_seconds = 10}, clock);
    ASSERT_TRUE(live.append(0, "decision"));
    const std::string whole = *files.read(kFolder / "workers/live");
    files.remove(kFolder / "workers/live");
    files.append(kFolder / "workers/live", whole.substr(0, length));
    watcher.refresh();
    EXPECT_FALSE(watcher.can_be_taken(0));
    clock.now += 9;
    live.beat();
    EXPECT_FALSE(watcher.can_be_taken(0));
    clock.now += 9;
    EXPECT_FALSE(watcher.can_be_taken(0));
    clock.now += 1;
    EXPECT_TRUE(watcher.can_be_taken(0));
  }
}

}  // namespace
}  // namespace tugline::sweep
