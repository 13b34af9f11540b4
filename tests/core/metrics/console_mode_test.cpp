// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/console_mode.hpp"

#include <gmock/gmock.h>

#include "tugline/core/error.hpp"
#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

struct Case {
  const char* what;
  ConsoleFacts facts;
  ConsoleMode mode;
  const char* reason;
};

TEST(DecideConsole, TheFirstRuleThatSpeaksWins) {
  constexpr auto live = ConsoleMode::live, plain = ConsoleMode::plain;
  const Case cases[] = {
      {"a shell", {.stdout_is_tty = true}, live, "stdout is a terminal"},
      {"a pipe", {}, plain, "stdout is no terminal"},
      {"option over all", {.option = "live", .environment = {{"CI", "1"}}}, live, "--progress"},
      {"option over variable",
       {.option = "plain", .environment = {{"TUGLINE_PROGRESS", "live"}}, .stdout_is_tty = true},
       plain,
       "--progress"},
      {"variable over CI", {.environment = {{"TUGLINE_PROGRESS", "live"}, {"CI", "true"}}}, live, "TUGLINE_PROGRESS"},
      {"variable says auto",
       {.environment = {{"TUGLINE_PROGRESS", "auto"}}, .stdout_is_tty = true},
       live,
       "stdout is a terminal"},
      {"CI", {.environment = {{"CI", "true"}}, .stdout_is_tty = true}, plain, "CI is set"},
      {"empty CI is unset", {.environment = {{"CI", ""}}, .stdout_is_tty = true}, live, "stdout is a terminal"},
      {"no colour", {.environment = {{"NO_COLOR", "1"}}, .stdout_is_tty = true}, plain, "NO_COLOR is set"},
      {"dumb", {.environment = {{"TERM", "dumb"}}, .stdout_is_tty = true}, plain, "TERM is dumb"},
      {"usual TERM", {.environment = {{"TERM", "xterm"}}, .stdout_is_tty = true}, live, "stdout is a terminal"},
      {"mpirun in a shell",
       {.stdout_is_tty = true, .launcher = "mpirun", .launcher_stdout_is_tty = true},
       live,
       "mpirun is a terminal"},
      {"mpirun | tee",
       {.stdout_is_tty = true, .launcher = "mpirun", .launcher_stdout_is_tty = false},
       plain,
       "mpirun is no terminal"},
      {"mpirun, rank's own stdout is a pipe",
       {.launcher = "mpirun", .launcher_stdout_is_tty = true},
       live,
       "mpirun is a terminal"},
      {"rank on another host", {.environment = {{"PMIX_RANK", "0"}}, .stdout_is_tty = true}, plain, "cannot be seen"},
      {"mpirun --tag-output",
       {.environment = {{"OMPI_MCA_orte_tag_output", "1"}},
        .stdout_is_tty = true,
        .launcher = "mpirun",
        .launcher_stdout_is_tty = true},
       plain,
       "labels or redirects lines"},
  };
  for (const Case& one : cases) {
    const ConsoleDecision decision = decide_console(one.facts);
    EXPECT_EQ(decision.mode, one.mode) << one.what;
    EXPECT_THAT(decision.reason, testing::HasSubstr(one.reason)) << one.what;
  }
}

TEST(DecideConsole, UnknownWordsAreUsageErrors) {
  EXPECT_THROW(decide_console({.option = "bar"}), UsageError);
  try {
    decide_console({.environment = {{"TUGLINE_PROGRESS", "fancy"}}});
    FAIL() << "no error";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "TUGLINE_PROGRESS: expected auto, live or plain, found 'fancy'");
  }
}

class FindLauncherTest : public TemporaryFolder {
 protected:
  void process(int pid, const std::string& name, int parent) {
    write(folder_ / std::to_string(pid) / "stat",
          std::to_string(pid) + " (" + name + ") S " + std::to_string(parent) + " 1 1 0 -1\n");
  }
  void stdout_of(int pid, const std::string& target) {
    std::filesystem::create_directories(folder_ / std::to_string(pid) / "fd");
    std::filesystem::create_symlink(target, folder_ / std::to_string(pid) / "fd" / "1");
  }
};

TEST_F(FindLauncherTest, WalksUpToTheNearestOne) {
  process(100, "tugline", 90);
  process(90, "odd ) (name", 80);
  process(80, "mpirun.openmpi", 70);
  process(70, "mpirun", 1);
  stdout_of(80, "/dev/pts/7");
  const auto launcher = find_launcher(100, folder_);
  ASSERT_TRUE(launcher);
  EXPECT_EQ(launcher->pid, 80);
  EXPECT_EQ(launcher->name, "mpirun.openmpi");
  EXPECT_EQ(launcher->stdout_target, "/dev/pts/7");
}

TEST_F(FindLauncherTest, NoneAboveAnUnreadableOneOrACycle) {
  process(100, "tugline", 90);
  process(90, "mpirun-wrapper", 80);
  EXPECT_FALSE(find_launcher(100, folder_)) << "80 cannot be read, and a wrapper is no launcher";
  process(80, "bash", 100);
  EXPECT_FALSE(find_launcher(100, folder_));
}

TEST_F(FindLauncherTest, ALauncherWhoseStdoutIsHidden) {
  process(100, "tugline", 90);
  process(90, "prterun", 1);
  ASSERT_TRUE(find_launcher(100, folder_));
  EXPECT_EQ(find_launcher(100, folder_)->stdout_target, "");
}

}  // namespace
}  // namespace tugline
