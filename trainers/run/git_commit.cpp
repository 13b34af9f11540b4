// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run/git_commit.hpp"

#include <fstream>
#include <string_view>

namespace tugline {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

/// The text after `head`, where `line` starts with it.
std::string after(const std::string& line, std::string_view head) {
  return line.starts_with(head) ? line.substr(head.size()) : "";
}

/// The folder that holds HEAD: .git itself, or where the .git file of a worktree or submodule points; empty: none above
/// `folder`.
fs::path git_folder(fs::path folder) {
  for (;; folder = folder.parent_path()) {
    const fs::path git = folder / ".git";
    std::error_code ignored;
    if (fs::is_directory(git, ignored)) return git;
    if (const std::string target = after(first_line(git), "gitdir: "); !target.empty()) return folder / target;
    if (folder == folder.parent_path()) return {};
  }
}

std::string packed_reference(const fs::path& packed, const std::string& name) {
  std::ifstream in(packed);
  for (std::string line; std::getline(in, line);) {
    if (line.ends_with(" " + name)) return line.substr(0, line.find(' '));
  }
  return "";
}

}  // namespace

std::string git_commit(const fs::path& folder) {
  std::error_code ignored;
  const fs::path git = git_folder(fs::absolute(folder, ignored));
  if (git.empty()) return "";
  const std::string head = first_line(git / "HEAD");
  const std::string name = after(head, "ref: ");
  if (name.empty()) return head;
  // A worktree keeps its branches in the folder of the main checkout.
  const std::string common = first_line(git / "commondir");
  const fs::path shared = common.empty() ? git : git / common;
  for (const fs::path& place : {git, shared}) {
    if (const std::string commit = first_line(place / name); !commit.empty()) return commit;
  }
  return packed_reference(shared / "packed-refs", name);
}

}  // namespace tugline
