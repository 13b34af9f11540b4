// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/atomic_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

/// Writes all of it and syncs; 0 or errno.
int write_and_sync(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return ::fsync(fd) == 0 ? 0 : errno;
}

}  // namespace

void write_file_atomically(const std::filesystem::path& file, std::string_view text,
                           const std::function<void(const std::filesystem::path& temporary)>& check) {
  const std::string temporary = fmt::format("{}.{}.tmp", file.string(), ::getpid());
  const auto fail = [&](int error) {
    ::unlink(temporary.c_str());
    throw IoError(fmt::format("cannot write {}: {}", file.string(), std::strerror(error)));
  };
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) fail(errno);
  int error = write_and_sync(fd, text);
  if (::close(fd) != 0 && error == 0) error = errno;
  if (error != 0) fail(error);
  try {
    if (check) check(temporary);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  if (::rename(temporary.c_str(), file.c_str()) != 0) fail(errno);
  const std::string folder = file.has_parent_path() ? file.parent_path().string() : ".";
  if (const int directory = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); directory >= 0) {
    ::fsync(directory);  // some file systems refuse it; the rename itself has succeeded
    ::close(directory);
  }
}

}  // namespace tugline
