// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/atomic_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

/// Writes all of it, and lets the disk begin; 0 or errno.
int write_all(int fd, std::span<const std::string_view> pieces) {
  constexpr std::size_t kMost = 8 << 20;   // bytes of one call: the disk works on them while the next are copied
  off_t end = 0;
  for (std::string_view text : pieces) {
    while (!text.empty()) {
      const ssize_t written = ::write(fd, text.data(), std::min(text.size(), kMost));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return errno;
      text.remove_prefix(static_cast<std::size_t>(written));
      if (written >= static_cast<ssize_t>(kMost / 8)) ::sync_file_range(fd, end, written, SYNC_FILE_RANGE_WRITE);   // a hint
      end += written;
    }
  }
  return 0;
}

}  // namespace

void write_file_atomically(const std::filesystem::path& file, std::string_view text) {
  write_file_atomically(file, std::span(&text, 1));
}

void write_file_atomically(const std::filesystem::path& file, std::span<const std::string_view> pieces,
                           const std::function<void(const std::filesystem::path& temporary)>& check) {
  const std::string temporary = fmt::format("{}.{}.tmp", file.string(), ::getpid());
  const auto fail = [&](int error) {
    ::unlink(temporary.c_str());
    throw IoError(fmt::format("cannot write {}: {}", file.string(), std::strerror(error)));
  };
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) fail(errno);
  int error = write_all(fd, pieces);
  try {
    if (check && error == 0) check(temporary);
  } catch (...) {
    ::close(fd);
    ::unlink(temporary.c_str());
    throw;
  }
  if (error == 0 && ::fsync(fd) != 0) error = errno;
  if (::close(fd) != 0 && error == 0) error = errno;
  if (error != 0) fail(error);
  if (::rename(temporary.c_str(), file.c_str()) != 0) fail(errno);
  const std::string folder = file.has_parent_path() ? file.parent_path().string() : ".";
  if (const int directory = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); directory >= 0) {
    ::fsync(directory);  // some file systems refuse it; the rename itself has succeeded
    ::close(directory);
  }
}

}  // namespace tugline
