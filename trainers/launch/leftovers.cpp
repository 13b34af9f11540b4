// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/launch/leftovers.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
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

constexpr std::string_view kPrefix = "tugline-";

/// Folders of this user's supervisors that were killed: "tugline-<pid>-XXXXXX".
void clear_orphans() {
  std::vector<fs::path> doomed;
  std::error_code error;
  for (fs::directory_iterator it(fs::temp_directory_path(), error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    struct stat facts {};
    int pid = 0;
    if (!name.starts_with(kPrefix) || ::lstat(it->path().c_str(), &facts) != 0 || !S_ISDIR(facts.st_mode) || facts.st_uid != ::geteuid()) continue;
    const auto [rest, failed] = std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), pid);
    if (failed != std::errc() || *rest != '-' || ::kill(pid, 0) == 0 || errno != ESRCH) continue;
    doomed.push_back(it->path());
  }
  for (const fs::path& folder : doomed) fs::remove_all(folder, error);
}

}  // namespace

SessionFolder::SessionFolder() {
  clear_orphans();
  std::string name = (fs::temp_directory_path() / fmt::format("{}{}-XXXXXX", kPrefix, ::getpid())).string();
  if (::mkdtemp(name.data()) == nullptr) throw IoError(fmt::format("cannot create the folder {}: {}", name, std::strerror(errno)));
  path_ = name;
}

SessionFolder::~SessionFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
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
