// SPDX-License-Identifier: Apache-2.0
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

}  // namespace
}  // namespace tugline
