// SPDX-License-Identifier: Apache-2.0
// A write that fails or is killed half-way. A limit on the size of files stands for a full disk, and for a kill at a known byte.
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>

#include "tugline/core/atomic_file.hpp"
#include "tugline/tests/core/io/checkpoint_content.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// No file of this process can grow beyond `bytes` while this lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(std::uintmax_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit lower{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &lower);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

class CheckpointFailure : public TemporaryFolder {
 protected:
  void SetUp() override {
    TemporaryFolder::SetUp();
    file_ = folder_ / "step-00000001.h5";
    write_checkpoint(file_, content_.content());
    size_ = fs::file_size(file_);
    before_ = read(file_);
    was_ = std::signal(SIGXFSZ, SIG_IGN);   // write() returns EFBIG instead
  }
  void TearDown() override {
    std::signal(SIGXFSZ, was_);
    TemporaryFolder::TearDown();
  }
  std::size_t num_files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  static auto open_files() {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  }

  OwnedContent content_ = small_content(50'000);
  fs::path file_;
  std::uintmax_t size_ = 0;
  std::string before_;
  void (*was_)(int) = nullptr;
};

TEST_F(CheckpointFailure, FullDiskLeavesTheOldCheckpointAndNothingElse) {
  const auto open = open_files();
  for (const std::uintmax_t room : {std::uintmax_t{0}, std::uintmax_t{100}, std::uintmax_t{512}, std::uintmax_t{1500}, size_ / 2,
                                    size_ - 4096, size_ - 1}) {
    for (const fs::path& file : {file_, folder_ / "step-00000002.h5"}) {
      std::string said;
      {
        const FileSizeLimit limit(room);
        said = refusal([&] { write_checkpoint(file, content_.content()); });
      }
      EXPECT_THAT(said, AllOf(HasSubstr(file.string()), HasSubstr("File too large"))) << room;
      EXPECT_EQ(num_files(), 1U) << room;
      EXPECT_EQ(read(file_), before_) << room;
    }
  }
  EXPECT_EQ(open_files(), open) << "a file that is deleted but open keeps its space on the disk";
  write_checkpoint(file_, content_.content());
  expect_same(read_checkpoint(file_), content_.content());
}

TEST_F(CheckpointFailure, KilledWriterLeavesTheOldCheckpointAndPruneCleansUp) {
  for (const std::uintmax_t room : {std::uintmax_t{600}, size_ / 2, size_ - 1}) {
    const pid_t child = ::fork();
    if (child == 0) {
      const rlimit no_core{0, 0};
      ::setrlimit(RLIMIT_CORE, &no_core);
      std::signal(SIGXFSZ, SIG_DFL);   // the kernel kills the process in the write that is one byte too long
      const FileSizeLimit limit(room);
      write_file_atomically(file_, before_);   // as write_checkpoint() does when the file is laid out
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ) << status;
    EXPECT_EQ(num_files(), 2U) << "the dead writer's temporary file";
    EXPECT_EQ(read(file_), before_);
    EXPECT_EQ(CheckpointFolder(folder_).list().size(), 1U);
    CheckpointFolder(folder_).prune(1, true);
    EXPECT_EQ(num_files(), 1U);
  }
}

TEST_F(CheckpointFailure, PlacesThatCannotBeWritten) {
  EXPECT_THAT(refusal([&] { write_checkpoint(file_ / "below" / "a.h5", content_.content()); }),
              AllOf(HasSubstr((file_ / "below" / "a.h5").string()), HasSubstr("Not a directory")));
  const fs::path in_the_way = folder_ / "folder.h5";
  fs::create_directory(in_the_way);
  EXPECT_THAT(refusal([&] { write_checkpoint(in_the_way, content_.content()); }),
              AllOf(HasSubstr(in_the_way.string()), HasSubstr("Is a directory")));
  EXPECT_EQ(num_files(), 2U);
  write_checkpoint(folder_ / "new" / "deep" / "a.h5", content_.content());
  verify_checkpoint(folder_ / "new" / "deep" / "a.h5");
}

}  // namespace
}  // namespace tugline
