// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run/run_directory.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "tugline/core/error.hpp"
#include "tugline/tests/support/temporary_folder.hpp"
#include "tugline/trainers/run/result.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

const char* const kConfig =
    "name: digits\nseed: 0\noptim:\n  name: sgd\n  lr: 0.1\n  groups:\n    - match: a\ntrain:\n  epochs: 3\n";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

/// The message of the error of kind `Kind` that `body` throws.
template <class Kind, class Body>
std::string message_of(Body body) {
  try {
    body();
  } catch (const Kind& error) {
    return error.what();
  }
  ADD_FAILURE() << "no such error";
  return "";
}

class RunDirectoryTest : public TemporaryFolder {
 protected:
  void SetUp() override {
    TemporaryFolder::SetUp();
    before_ = fs::current_path();
    fs::current_path(folder_);
  }
  void TearDown() override {
    fs::current_path(before_);
    TemporaryFolder::TearDown();
  }
  RunOptions options() const { return {.folder = folder_ / "run", .config_name = "digits", .config_yaml = kConfig}; }
  RunState open(RunOptions with) const { return RunDirectory(with).state(); }
  std::vector<std::string> names_in(const fs::path& folder) const {
    std::vector<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(folder))
      names.push_back(fs::relative(entry.path(), folder).string());
    return names;
  }
  fs::path before_;
};

TEST_F(RunDirectoryTest, CreatedThenResumedThenFinished) {
  EXPECT_EQ(open(options()), RunState::created);
  EXPECT_EQ(read(folder_ / "run" / "config.yaml"), kConfig);
  EXPECT_TRUE(fs::is_directory(folder_ / "run" / "checkpoints"));
  EXPECT_TRUE(fs::is_directory(folder_ / "run" / "logs"));
  EXPECT_EQ(open(options()), RunState::resumed);
  write_result(folder_ / "run" / "result.json", {.status = Result::kStopped});
  EXPECT_EQ(open(options()), RunState::resumed);
  write_result(folder_ / "run" / "result.json", {});
  EXPECT_EQ(open(options()), RunState::finished);
  EXPECT_EQ(read(folder_ / "run" / "config.yaml"), kConfig);
}

TEST_F(RunDirectoryTest, DefaultNamesAreNewOnes) {
  RunOptions with{.config_name = "my net/v2", .config_yaml = kConfig, .now = 1700000000};
  const RunDirectory first(with), second(with), third(with);
  EXPECT_THAT(first.paths().folder().string(), testing::MatchesRegex("runs/my-net-v2-2023111[45]-[0-9]+"));
  EXPECT_EQ(second.paths().folder().string(), first.paths().folder().string() + "-2");
  EXPECT_EQ(third.paths().folder().string(), first.paths().folder().string() + "-3");
  EXPECT_EQ(third.state(), RunState::created);
}

TEST_F(RunDirectoryTest, AnEmptyFolderIsFine) {
  fs::create_directory(folder_ / "run");
  EXPECT_EQ(open(options()), RunState::created);
}

TEST_F(RunDirectoryTest, AForeignFolderIsNeverTouched) {
  write(folder_ / "run" / "config.yaml", "somebody: else\n");
  write(folder_ / "run" / "result.json", "{}");
  for (const bool fresh : {false, true}) {
    RunOptions with = options();
    with.fresh = fresh;
    EXPECT_THAT(message_of<UsageError>([&] { open(with); }),
                AllOf(HasSubstr("/run has files but is no run"), HasSubstr("--run-dir")));
    EXPECT_THAT(names_in(folder_ / "run"), testing::UnorderedElementsAre("config.yaml", "result.json"));
  }
}

TEST_F(RunDirectoryTest, AFileInThePlaceOfTheFolder) {
  write(folder_ / "run", "text");
  EXPECT_THAT(message_of<UsageError>([&] { open(options()); }), HasSubstr("is a file"));
}

TEST_F(RunDirectoryTest, AFolderThatCannotBeMade) {
  write(folder_ / "file", "text");
  RunOptions with = options();
  with.folder = folder_ / "file" / "run";
  EXPECT_THAT(message_of<IoError>([&] { open(with); }), HasSubstr("file/run"));
}

TEST_F(RunDirectoryTest, AnotherConfigIsRefusedWithTheKey) {
  open(options());
  RunOptions with = options();
  with.config_yaml = replaced(kConfig, "lr: 0.1", "lr: 0.2");
  EXPECT_THAT(message_of<ConfigError>([&] { open(with); }),
              AllOf(HasSubstr("optim.lr is 0.1 there and 0.2 here"), HasSubstr("--fresh"), HasSubstr("--run-dir")));
  EXPECT_EQ(read(folder_ / "run" / "config.yaml"), kConfig);
}

TEST_F(RunDirectoryTest, WhatBecomesOfBadNumbersMayChange) {
  RunOptions with = options();
  with.config_yaml += "  nonfinite: stop\n  spike_factor: 10\n";
  open(with);
  with.config_yaml = std::string(kConfig) + "  nonfinite: skip\n  spike_factor: 0\n";
  EXPECT_EQ(open(with), RunState::resumed);
  EXPECT_EQ(open(options()), RunState::resumed) << "one of before there were such keys";
}

TEST_F(RunDirectoryTest, FreshDeletesTheRunAndNothingElse) {
  open(options());
  const fs::path run = folder_ / "run";
  for (const char* own : {"environment.json", "metrics.jsonl", "events.out.tfevents.1.host.2", "logs/rank-0.log",
                          "checkpoints/step-00000010.h5", "checkpoints/best.json", "config.yaml.77.tmp"}) {
    write(run / own, "old");
  }
  write_result(run / "result.json", {});
  for (const char* foreign : {"notes.txt", "checkpoints/mine.h5", "logs/other.txt", "deep/config.yaml"})
    write(run / foreign, "keep");
  RunOptions with = options();
  with.fresh = true;
  with.config_yaml = replaced(kConfig, "seed: 0", "seed: 1");
  EXPECT_EQ(open(with), RunState::created);
  EXPECT_THAT(names_in(run),
              testing::UnorderedElementsAre("config.yaml", ".tugline-run", "lock", "checkpoints", "logs", "deep",
                                            "notes.txt", "checkpoints/mine.h5", "logs/other.txt", "deep/config.yaml"));
  EXPECT_EQ(read(run / "config.yaml"), with.config_yaml);
}

TEST_F(RunDirectoryTest, TwoJobsNeverShareARun) {
  const RunDirectory held(options());
  RunOptions with = options();
  with.fresh = true;
  EXPECT_THAT(message_of<UsageError>([&] { open(with); }),
              AllOf(HasSubstr("is in use by process " + std::to_string(::getpid()) + " on host "), HasSubstr("--run-dir")));
  EXPECT_EQ(read(folder_ / "run" / "config.yaml"), kConfig) << "--fresh must not delete a run that is going on";
}

TEST_F(RunDirectoryTest, TheLockGoesWithItsOwner) {
  RunDirectory first(options());
  RunDirectory second = std::move(first);
  EXPECT_THROW(open(options()), UsageError);
  { const RunDirectory gone = std::move(second); }
  EXPECT_EQ(open(options()), RunState::resumed);
}

TEST_F(RunDirectoryTest, ACrashBeforeTheConfigWasWrittenIsANewRun) {
  open(options());
  fs::remove(folder_ / "run" / "config.yaml");
  EXPECT_EQ(open(options()), RunState::created);
}

TEST(FirstDifference, NamesKeyAndBothValues) {
  EXPECT_EQ(first_difference(kConfig, kConfig), "");
  EXPECT_EQ(first_difference(kConfig, replaced(kConfig, "epochs: 3", "epochs: 4")), "train.epochs is 3 there and 4 here");
  EXPECT_EQ(first_difference(kConfig, replaced(kConfig, "seed: 0", "seed: 7")), "seed is 0 there and 7 here");
  EXPECT_EQ(first_difference(kConfig, replaced(kConfig, "- match: a", "- match: b")),
            "optim.groups is - match: a there and - match: b here");
  EXPECT_EQ(first_difference(kConfig, std::string(kConfig) + "  steps: 5\n"), "train.steps is not there and 5 here");
  EXPECT_EQ(first_difference(std::string(kConfig) + "  steps: 5\n", kConfig), "train.steps is 5 there and not here");
}

using ResultTest = TemporaryFolder;

TEST_F(ResultTest, ReadsBackWhatItWrote) {
  Result result{.status = Result::kStopped,
                .reason = "time limit",
                .ranks = 3,
                .epochs = 7,
                .steps = 1234,
                .seconds = 1.5,
                .samples_per_second = 987.25,
                .checkpoint = "checkpoints/step-00001234.h5"};
  result.splits["train"] = {.loss = 0.1, .accuracy = 0.99};
  result.splits["validation"] = {.loss = std::numeric_limits<double>::infinity()};
  write_result(folder_ / "result.json", result);
  EXPECT_EQ(read_result(folder_ / "result.json"), result);
  EXPECT_THAT(read(folder_ / "result.json"),
              AllOf(HasSubstr("\"status\": \"stopped\""), HasSubstr("\"train\": {\n    \"loss\": 0.1,")));
}

TEST_F(ResultTest, NoneAndBroken) {
  EXPECT_EQ(read_result(folder_ / "result.json"), std::nullopt);
  for (const char* text : {"", "{", "[]", "{}", R"({"status":"done"})"}) {
    write(folder_ / "result.json", text);
    EXPECT_THAT(message_of<IoError>([&] { read_result(folder_ / "result.json"); }), HasSubstr("result.json is no result"))
        << text;
  }
}

}  // namespace
}  // namespace tugline
