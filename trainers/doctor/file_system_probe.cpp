// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/doctor/file_system_probe.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

namespace tugline {
namespace {

namespace fs = std::filesystem;

std::string outcome(bool good) { return good ? "" : std::strerror(errno); }

fs::path nearest_existing(fs::path folder) {
  std::error_code ignored;
  folder = fs::absolute(folder, ignored).lexically_normal();
  while (!fs::is_directory(folder, ignored) && folder.has_relative_path()) folder = folder.parent_path();
  return folder;
}

bool write_file(const fs::path& file) {
  std::ofstream out(file);
  return static_cast<bool>(out << "tugline doctor\n" << std::flush);
}

std::string try_sync(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return outcome(false);
  const std::string result = outcome(::fsync(fd) == 0);
  ::close(fd);
  return result;
}

std::string try_lock(const fs::path& file) {
  const int first = ::open(file.c_str(), O_RDWR | O_CLOEXEC), second = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
  std::string result = outcome(first >= 0 && second >= 0 && ::flock(first, LOCK_EX | LOCK_NB) == 0);
  if (result.empty() && ::flock(second, LOCK_EX | LOCK_NB) == 0) result = "two holders got the same lock";
  ::close(first), ::close(second);
  return result;
}

std::string try_link(const fs::path& file, const fs::path& name) {
  if (::link(file.c_str(), name.c_str()) != 0) return outcome(false);
  return ::link(file.c_str(), name.c_str()) != 0 && errno == EEXIST ? "" : "a name that was taken was given again";
}

}  // namespace

FileSystemProbe::FileSystemProbe(const fs::path& folder) {
  const fs::path there = nearest_existing(folder);
  facts_.folder = there.string();
  struct statvfs space {};
  if (::statvfs(there.c_str(), &space) == 0)
    facts_.free_bytes = static_cast<std::int64_t>(space.f_bavail) * static_cast<std::int64_t>(space.f_frsize);

  std::string name = (there / ".tugline-doctor-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    facts_.write = outcome(false);
    return;
  }
  scratch_ = name;
  const fs::path file = scratch_ / "file", old = scratch_ / "old";
  errno = 0;
  facts_.write = outcome(write_file(file) && write_file(old));
  if (!facts_.write.empty()) return;
  facts_.sync = try_sync(file);
  if (facts_.sync.empty()) facts_.sync = try_sync(scratch_);
  facts_.rename = outcome(::rename(file.c_str(), old.c_str()) == 0);
  token_ = facts_.rename.empty() ? old : file;
  facts_.lock = try_lock(token_);
  facts_.link = try_link(token_, scratch_ / "link");
}

FileSystemProbe::~FileSystemProbe() {
  std::error_code ignored;
  if (!scratch_.empty()) fs::remove_all(scratch_, ignored);
}

}  // namespace tugline
