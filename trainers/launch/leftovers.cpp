// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/launch/leftovers.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;

/// Files of Open MPI 4 and 5.
bool is_segment(const fs::path& file) {
  constexpr std::array<std::string_view, 3> kPrefixes{"vader_segment.", "sm_segment.", "osc_rdma."};
  const std::string name = file.filename().string();
  return std::any_of(kPrefixes.begin(), kPrefixes.end(), [&](std::string_view prefix) { return name.starts_with(prefix); });
}

/// And not so new that its maker may be about to map it.
bool is_mine(const fs::path& file) {
  struct stat facts {};
  if (::lstat(file.c_str(), &facts) != 0 || !S_ISREG(facts.st_mode) || facts.st_uid != ::geteuid()) return false;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const auto seconds = [](const timespec& time) { return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec); };
  return seconds(now) - seconds(facts.st_mtim) > 0.1;
}

/// Names below `folder` that some process has mapped.
std::vector<std::string> mapped_below(const fs::path& folder) {
  std::vector<std::string> names;
  const std::string prefix = folder.string() + "/";
  std::error_code error;
  for (fs::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    std::ifstream in(it->path() / "maps");
    for (std::string line; std::getline(in, line);) {
      const auto at = line.find(prefix);
      if (at != line.npos) names.push_back(line.substr(at));
    }
  }
  return names;
}

constexpr const char* kPattern = "tugline-session-XXXXXX";
constexpr const char* kOwner = "owner";   // a file that the owner of the folder holds a lock on

/// The owner's lock; -1: somebody else has it, or there is no such file.
int take_lock(const fs::path& folder, int flags) {
  const int fd = ::open((folder / kOwner).c_str(), flags | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  if (fd >= 0) ::close(fd);
  return -1;
}

/// Folders of this user's supervisors that were killed.
void clear_orphans() {
  const std::string_view prefix = std::string_view(kPattern).substr(0, std::strlen(kPattern) - 6);
  std::vector<fs::path> doomed;
  std::error_code error;
  for (fs::directory_iterator it(fs::temp_directory_path(), error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    struct stat facts {};
    if (name.size() != std::strlen(kPattern) || !name.starts_with(prefix)) continue;
    if (::lstat(it->path().c_str(), &facts) == 0 && S_ISDIR(facts.st_mode) && facts.st_uid == ::geteuid()) doomed.push_back(it->path());
  }
  for (const fs::path& folder : doomed) {
    const int lock = take_lock(folder, 0);
    if (lock < 0) continue;
    fs::remove_all(folder, error);
    ::close(lock);
  }
}

}  // namespace

SessionFolder::SessionFolder() {
  clear_orphans();
  std::string name = (fs::temp_directory_path() / kPattern).string();
  if (::mkdtemp(name.data()) == nullptr) throw IoError(fmt::format("cannot create the folder {}: {}", name, std::strerror(errno)));
  path_ = name;
  lock_ = take_lock(path_, O_CREAT);
}

SessionFolder::~SessionFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  if (lock_ >= 0) ::close(lock_);
}

int clear_shared_memory(const fs::path& folder) noexcept {
  int cleared = 0;
  try {
    std::vector<fs::path> files;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      if (is_segment(it->path()) && is_mine(it->path())) files.push_back(it->path());
    }
    if (files.empty()) return 0;
    const std::vector<std::string> mapped = mapped_below(folder);
    for (const fs::path& file : files) {
      if (std::find(mapped.begin(), mapped.end(), file.string()) == mapped.end() && fs::remove(file, error)) ++cleared;
    }
  } catch (const std::exception&) {
    // a segment too many is no reason to end a run
  }
  return cleared;
}

}  // namespace tugline
