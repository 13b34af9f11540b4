// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/doctor/file_system_probe.hpp"

#include <gmock/gmock.h>

#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;

class FileSystemProbeTest : public TemporaryFolder {
 protected:
  std::ptrdiff_t num_entries() const { return std::distance(fs::directory_iterator(folder_), {}); }
};

TEST_F(FileSystemProbeTest, TriesEverythingAndCleansUp) {
  {
    const FileSystemProbe probe(folder_);
    const FileSystemFacts& facts = probe.facts();
    EXPECT_EQ(facts.folder, folder_.string());
    for (const std::string& trouble : {facts.write, facts.sync, facts.rename, facts.lock, facts.link})
      EXPECT_EQ(trouble, "");
    EXPECT_GT(facts.free_bytes, 0);
    EXPECT_TRUE(fs::exists(probe.token()));
    EXPECT_EQ(num_entries(), 1);
  }
  EXPECT_EQ(num_entries(), 0);
}

TEST_F(FileSystemProbeTest, AFolderThatIsNotThereYetIsTriedAboveIt) {
  const FileSystemProbe probe(folder_ / "runs" / "new");
  EXPECT_EQ(probe.facts().folder, folder_.string());
  EXPECT_EQ(probe.facts().write, "");
  EXPECT_FALSE(fs::exists(folder_ / "runs"));
}

TEST_F(FileSystemProbeTest, SaysWhyItCannotWrite) {
  const FileSystemProbe probe("/proc");  // nobody can make a folder there, not even root
  EXPECT_NE(probe.facts().write, "");
  EXPECT_TRUE(probe.token().empty());
}

}  // namespace
}  // namespace tugline
