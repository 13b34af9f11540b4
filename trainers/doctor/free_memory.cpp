// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/doctor/free_memory.hpp"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace tugline {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

/// The limit in a file; "max", or no file, is none.
std::int64_t limit_in(const fs::path& file) {
  std::ifstream in(file);
  std::int64_t bytes = 0;
  return in >> bytes && bytes > 0 ? bytes : kNoLimit;
}

/// The tightest between the group and the top, as far as they can be seen from here.
std::int64_t tightest(const fs::path& mount, const std::string& group, const char* file) {
  std::int64_t bytes = limit_in(mount / file);
  fs::path folder = mount;
  for (const fs::path& part : fs::path(group).relative_path()) bytes = std::min(bytes, limit_in((folder /= part) / file));
  return bytes;
}

std::int64_t cgroup_bytes(const fs::path& root) {
  std::int64_t bytes = kNoLimit;
  std::ifstream lines(root / "proc/self/cgroup");
  for (std::string line; std::getline(lines, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    if (controllers.empty()) bytes = std::min(bytes, tightest(root / "sys/fs/cgroup", group, "memory.max"));
    if (controllers == "memory")
      bytes = std::min(bytes, tightest(root / "sys/fs/cgroup/memory", group, "memory.limit_in_bytes"));
  }
  return bytes;
}

std::int64_t available_bytes(const fs::path& root) {
  std::ifstream in(root / "proc/meminfo");
  std::int64_t kib = 0;
  for (std::string word; in >> word;) {
    if (word == "MemAvailable:") return in >> kib ? kib * 1024 : 0;
  }
  return 0;
}

}  // namespace

std::int64_t free_memory_bytes(const fs::path& root) try {
  return std::min(available_bytes(root), cgroup_bytes(root));
} catch (const std::exception&) {
  return 0;
}

}  // namespace tugline
