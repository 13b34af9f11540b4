// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run/git_commit.hpp"

#include <gmock/gmock.h>

#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

class GitCommitTest : public TemporaryFolder {
 protected:
  void put(const std::string& file, const std::string& text) { write(folder_ / file, text); }
  std::string commit(const std::string& folder = "a/b") const {
    std::filesystem::create_directories(folder_ / folder);
    return git_commit(folder_ / folder);
  }
};

TEST_F(GitCommitTest, NoneOutsideARepository) { EXPECT_EQ(commit(), ""); }

TEST_F(GitCommitTest, ABranch) {
  put(".git/HEAD", "ref: refs/heads/main\n");
  put(".git/refs/heads/main", "0123abcd\n");
  EXPECT_EQ(commit(), "0123abcd");
}

TEST_F(GitCommitTest, ADetachedHead) {
  put("a/.git/HEAD", "89abcdef\n");
  EXPECT_EQ(commit(), "89abcdef");
}

TEST_F(GitCommitTest, PackedReferences) {
  put(".git/HEAD", "ref: refs/heads/main\n");
  put(".git/packed-refs", "# pack-refs with: peeled\n1111 refs/heads/not-main\n2222 refs/heads/main\n");
  EXPECT_EQ(commit(), "2222");
}

TEST_F(GitCommitTest, AWorktree) {
  put("tree/.git", "gitdir: ../main/.git/worktrees/tree\n");
  put("main/.git/worktrees/tree/HEAD", "ref: refs/heads/topic\n");
  put("main/.git/worktrees/tree/commondir", "../..\n");
  put("main/.git/refs/heads/topic", "3333\n");
  EXPECT_EQ(commit("tree/deep"), "3333");
}

TEST_F(GitCommitTest, ABranchWithoutCommits) {
  put(".git/HEAD", "ref: refs/heads/main\n");
  EXPECT_EQ(commit(), "");
}

}  // namespace
}  // namespace tugline
