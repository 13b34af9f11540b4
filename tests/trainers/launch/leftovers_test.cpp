// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/launch/leftovers.hpp"

#include <gtest/gtest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>

#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;

class Leftovers : public TemporaryFolder {
 protected:
  fs::path segment(const std::string& name, bool old = true) {
    write(folder_ / name, "0123456789");
    if (old) fs::last_write_time(folder_ / name, fs::file_time_type::clock::now() - std::chrono::seconds(10));
    return folder_ / name;
  }
};

TEST_F(Leftovers, OnlySegmentsThatNobodyHasMapped) {
  const fs::path dead = segment("vader_segment.host.0.1"), alive = segment("sm_segment.host.0.2"), young = segment("vader_segment.3", false);
  const fs::path other = segment("precious.data");
  const int fd = ::open(alive.c_str(), O_RDWR);
  void* const memory = ::mmap(nullptr, 10, PROT_READ, MAP_SHARED, fd, 0);
  ::close(fd);
  EXPECT_EQ(clear_shared_memory(folder_), 1);
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_TRUE(fs::exists(alive) && fs::exists(young) && fs::exists(other));
  ::munmap(memory, 10);
  EXPECT_EQ(clear_shared_memory(folder_), 1);
  EXPECT_EQ(clear_shared_memory(folder_ / "missing"), 0);
}

TEST_F(Leftovers, SessionFoldersOfTheDeadAreClearedByTheNext) {
  ::setenv("TMPDIR", folder_.c_str(), 1);
  const int child = ::fork();
  if (child == 0) {
    const SessionFolder mine;
    write(mine.path() / "socket", "x");
    ::_exit(0);   // without its destructor
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_FALSE(fs::is_empty(folder_));
  {
    const SessionFolder first, second;
    EXPECT_TRUE(fs::exists(first.path()) && fs::exists(second.path()));
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 2);
  }
  EXPECT_TRUE(fs::is_empty(folder_));
  ::unsetenv("TMPDIR");
}

}  // namespace
}  // namespace tugline
