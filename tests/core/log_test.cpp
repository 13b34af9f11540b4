// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/log.hpp"

#include <gmock/gmock.h>

#include <thread>
#include <vector>

#include "tugline/core/atomic_file.hpp"
#include "tugline/core/error.hpp"
#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

class LogTest : public TemporaryFolder {
 protected:
  void SetUp() override {
    TemporaryFolder::SetUp();
    log::set_console([this](std::string_view line) { console_.emplace_back(line); });
  }
  void TearDown() override {
    log::set_console(nullptr);
    log::close_rank_file();
    log::set_rank(0);
    TemporaryFolder::TearDown();
  }
  std::vector<std::string> console_;
};

TEST_F(LogTest, RankZeroSpeaksAndWarnsOnce) {
  log::info("one {}", 1);
  log::warn("same warning");
  log::warn("same warning");
  log::error("bad");
  EXPECT_THAT(console_, testing::ElementsAre("one 1", "warning: same warning", "error: bad"));
}

TEST_F(LogTest, OtherRanksKeepQuietExceptForErrors) {
  log::set_rank(3);
  log::info("hello");
  log::warn("a warning of rank 3");
  log::error("only I saw this");
  EXPECT_THAT(console_, testing::ElementsAre("[rank 3] error: only I saw this"));
}

TEST_F(LogTest, TheRanksFileGetsEverythingAndGrows) {
  const auto file = folder_ / "rank-2.log";
  log::open_rank_file(file, 2);
  log::info("braces {{}} and {}", "{}");
  log::warn("twice");
  log::warn("twice");
  log::close_rank_file();
  log::info("not in the file");
  log::open_rank_file(file, 2);
  log::error("second attempt");
  const std::string text = read(file);
  EXPECT_THAT(text, testing::ContainsRegex("[0-9-]+ [0-9:.]+ \\[rank 2\\] info: braces \\{\\} and \\{\\}\n"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4) << text;
  EXPECT_THAT(text, testing::HasSubstr("[rank 2] error: second attempt\n"));
}

TEST_F(LogTest, AFileThatCannotBeOpenedIsAnError) {
  write(folder_ / "file", "");
  EXPECT_THROW(log::open_rank_file(folder_ / "file" / "rank-0.log", 0), IoError);
}

TEST_F(LogTest, LinesOfManyThreadsStayWhole) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 100; ++i) log::info("thread {} says {}", t, i);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(console_.size(), 400u);
}

using AtomicFileTest = TemporaryFolder;

TEST_F(AtomicFileTest, ReplacesWholeFilesAndLeavesNothingElse) {
  write_file_atomically(folder_ / "a.json", "first, and longer");
  write_file_atomically(folder_ / "a.json", "second");
  EXPECT_EQ(read(folder_ / "a.json"), "second");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(AtomicFileTest, FailureNamesTheFileAndLeavesNothing) {
  std::filesystem::create_directory(folder_ / "taken");
  for (const auto& file : {folder_ / "taken", folder_ / "absent" / "a.json"}) {
    try {
      write_file_atomically(file, "text");
      FAIL() << "no error";
    } catch (const IoError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(file.string()));
    }
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

}  // namespace
}  // namespace tugline
