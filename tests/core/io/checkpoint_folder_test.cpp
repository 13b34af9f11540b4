// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>

#include "tugline/tests/core/io/checkpoint_content.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class Checkpoints : public TemporaryFolder {
 protected:
  void save(std::int64_t step) const { write_checkpoint(checkpoints().path_of(step), small_content().content()); }
  void damage(std::int64_t step) const { fs::resize_file(checkpoints().path_of(step), 700); }
  std::vector<std::int64_t> steps() const {
    std::vector<std::int64_t> steps;
    for (const auto& entry : checkpoints().list()) steps.push_back(entry.step);
    return steps;
  }
  /// As three writers do.
  void save_set(std::int64_t step) const { write_set(checkpoints().path_of(step), 3); }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
  CheckpointFolder checkpoints() const { return CheckpointFolder(folder_); }
};

TEST_F(Checkpoints, ListsBySteps) {
  for (const std::int64_t step : {100'000'000, 9, 99'999'999, 10}) save(step);
  for (const char* other :
       {"step-7.h5", "step-00000007.h5.12.tmp", "step-0000000a.h5", "step-00000007.hdf5", "best.json", "step-.h5"}) {
    write(folder_ / other, "");
  }
  EXPECT_THAT(steps(), ElementsAre(9, 10, 99'999'999, 100'000'000));
  EXPECT_EQ(checkpoints().newest_valid(nullptr), folder_ / "step-100000000.h5");
}

TEST_F(Checkpoints, AbsentFolderIsEmptyButAnUnreadableOneIsAnError) {
  EXPECT_THAT(CheckpointFolder(folder_ / "none").list(), IsEmpty());
  EXPECT_EQ(CheckpointFolder(folder_ / "none").newest_valid(nullptr), fs::path());
  write(folder_ / "file", "");
  EXPECT_THAT(refusal([&] { CheckpointFolder(folder_ / "file").list(); }), StartsWith((folder_ / "file").string() + ": "));
}

TEST_F(Checkpoints, NewestValidSkipsDamagedOnesAndSaysWhy) {
  for (const std::int64_t step : {1, 2, 3}) save(step);
  damage(3);
  write(checkpoints().path_of(2), "no checkpoint");
  std::vector<std::string> skipped;
  EXPECT_EQ(checkpoints().newest_valid(&skipped), checkpoints().path_of(1));
  EXPECT_THAT(skipped, ElementsAre(AllOf(HasSubstr("step-00000003.h5"), HasSubstr("cut off")),
                                   AllOf(HasSubstr("step-00000002.h5"), HasSubstr("not a Tugline checkpoint"))));
}

TEST_F(Checkpoints, BestIsWhatWasMarkedLast) {
  EXPECT_EQ(checkpoints().best(), fs::path());
  save(1);
  checkpoints().mark_best(1, "validation.loss", std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(checkpoints().best(), checkpoints().path_of(1));
  save(4);
  checkpoints().mark_best(4, "validation.loss", 0.5);
  EXPECT_EQ(checkpoints().best(), checkpoints().path_of(4));
  fs::remove(checkpoints().path_of(4));
  EXPECT_EQ(checkpoints().best(), fs::path());
  write(folder_ / "best.json", "{\"step\": ");
  EXPECT_EQ(checkpoints().best(), fs::path());
}

TEST_F(Checkpoints, PruneKeepsTheNewestAndTheBest) {
  for (std::int64_t step = 1; step <= 6; ++step) save(step);
  checkpoints().mark_best(2, "validation.accuracy", 0.9);
  checkpoints().prune(3, true);
  EXPECT_THAT(steps(), ElementsAre(2, 4, 5, 6));
  checkpoints().prune(0, true);   // at least one
  EXPECT_THAT(steps(), ElementsAre(2, 6));
  checkpoints().prune(1, false);
  EXPECT_THAT(steps(), ElementsAre(6));
}

TEST_F(Checkpoints, PruneNeverDeletesTheLastGoodOne) {
  for (std::int64_t step = 1; step <= 4; ++step) save(step);
  damage(4);
  damage(3);
  checkpoints().prune(2, false);
  EXPECT_THAT(steps(), ElementsAre(1, 2, 3, 4));
  checkpoints().prune(3, false);
  EXPECT_THAT(steps(), ElementsAre(2, 3, 4));
  EXPECT_EQ(checkpoints().newest_valid(nullptr), checkpoints().path_of(2));
}

TEST_F(Checkpoints, PruneGoesByStepsBeyondEightDigits) {
  for (const std::int64_t step : {99'999'998, 99'999'999, 100'000'000}) save(step);
  checkpoints().prune(2, false);
  EXPECT_THAT(steps(), ElementsAre(99'999'999, 100'000'000));
}

TEST_F(Checkpoints, ASetIsListedOnceAndGoesWithItsSlices) {
  save(1);
  save_set(2);
  save_set(3);
  EXPECT_THAT(steps(), ElementsAre(1, 2, 3));
  std::int64_t bytes = 0;
  for (const std::string& name : files()) bytes += name.starts_with("step-00000003.") ? static_cast<std::int64_t>(fs::file_size(folder_ / name)) : 0;
  EXPECT_EQ(checkpoints().bytes_of(checkpoints().list().back()), bytes);
  checkpoints().prune(1, false);
  EXPECT_THAT(files(), ElementsAre("step-00000003.1-of-3.h5", "step-00000003.2-of-3.h5", "step-00000003.3-of-3.h5", "step-00000003.h5"));
}

TEST_F(Checkpoints, SlicesWithoutACheckpointGoUnlessTheyMayBeUnderWay) {
  save_set(4);
  for (const char* name : {"step-00000003.1-of-2.h5", "step-00000004.2-of-3.h5.12.tmp", "step-00000005.1-of-2.h5", "step-00000005.2-of-2.h5.12.tmp"}) write(folder_ / name, "");
  checkpoints().prune(2, true);
  EXPECT_THAT(files(), ElementsAre("step-00000004.1-of-3.h5", "step-00000004.2-of-3.h5", "step-00000004.3-of-3.h5", "step-00000004.h5",
                                   "step-00000005.1-of-2.h5", "step-00000005.2-of-2.h5.12.tmp"));
}

TEST_F(Checkpoints, WhatIsNotQuiteNamedLikeASliceStays) {
  for (const std::int64_t step : {1, 2}) save_set(step);
  const std::vector<std::string> others = {"step-00000001.1-of-3.h5.bak", "step-00000001.1-of-3.h5.set-aside", "step-00000001.best-of-run.h5", "step-1.1-of-3.h5"};
  for (const std::string& name : others) write(folder_ / name, "");
  checkpoints().prune(1, false);
  for (const std::string& name : others) EXPECT_TRUE(fs::exists(folder_ / name)) << name;
  EXPECT_THAT(steps(), ElementsAre(2));
}

TEST_F(Checkpoints, SetAsideIsWholeAndNoLongerThere) {
  save_set(1);
  EXPECT_TRUE(checkpoints().set_aside(checkpoints().path_of(1)));
  EXPECT_THAT(steps(), IsEmpty());
  save(2);
  checkpoints().prune(1, false);
  EXPECT_THAT(files(), ElementsAre("step-00000001.1-of-3.h5.set-aside", "step-00000001.2-of-3.h5.set-aside", "step-00000001.3-of-3.h5.set-aside",
                                   "step-00000001.h5.set-aside", "step-00000002.h5"));
  EXPECT_FALSE(checkpoints().set_aside(folder_ / "notes.txt"));
}

TEST_F(Checkpoints, ASliceThatIsDamagedMissingOrAnothersIsNoCheckpoint) {
  for (const std::int64_t step : {1, 2}) save_set(step);
  const fs::path slice = folder_ / "step-00000002.2-of-3.h5";
  const std::string good = read(slice);
  const auto expect_skipped = [&](const std::string& why) {
    std::vector<std::string> skipped;
    EXPECT_EQ(checkpoints().newest_valid(&skipped), checkpoints().path_of(1));
    EXPECT_THAT(skipped, ElementsAre(AllOf(HasSubstr("step-00000002.2-of-3.h5"), HasSubstr(why))));
  };
  for (std::size_t i = 0; i < good.size(); i += 37) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
    write(slice, bad);
    expect_skipped("");
  }
  fs::copy_file(folder_ / "step-00000001.2-of-3.h5", slice, fs::copy_options::overwrite_existing);
  expect_skipped("not the slice that step-00000002.h5 was written with");
  fs::remove(slice);
  expect_skipped("No such file");
  write(slice, good);
  EXPECT_EQ(checkpoints().newest_valid(nullptr), checkpoints().path_of(2));
  EXPECT_THAT(refusal([&] { read_checkpoint(slice); }), HasSubstr("a slice of a checkpoint; give the file without its number"));
}

TEST_F(Checkpoints, AManifestLeadsNowhereElse) {
  for (const char* name : {"../step-00000001.1-of-2.h5", "/etc/passwd", "..", ""}) {
    OwnedContent owned;
    owned.text("manifest", encode(Manifest{.slices = 2, .files = {{"step-00000001.1-of-2.h5", "0"}, {name, "0"}}}));
    write_checkpoint(checkpoints().path_of(1), owned.content());
    EXPECT_THAT(refusal([&] { verify_checkpoint(checkpoints().path_of(1)); }), HasSubstr("no name of a file in the same folder"));
  }
  for (const char* text : {"{", "{}", R"({"slice":0,"slices":3,"world_size":1,"files":[]})", R"({"slice":0,"slices":1,"world_size":1,"files":[3]})"}) {
    OwnedContent owned;
    owned.text("manifest", text);
    write_checkpoint(checkpoints().path_of(1), owned.content());
    EXPECT_THAT(refusal([&] { verify_checkpoint(checkpoints().path_of(1)); }), HasSubstr("/meta/manifest cannot be read")) << text;
  }
}

}  // namespace
}  // namespace tugline
