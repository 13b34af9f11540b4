// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/append_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"

namespace tugline {

AppendFile::AppendFile(std::filesystem::path file) : file_(std::move(file)) {
  fd_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) throw IoError(fmt::format("cannot open {}: {}", file_.string(), std::strerror(errno)));
}

AppendFile::~AppendFile() { ::close(fd_); }

bool AppendFile::append(std::string_view bytes) noexcept {
  ssize_t written = 0;
  do written = ::write(fd_, bytes.data(), bytes.size());
  while (written < 0 && errno == EINTR);
  if (written == static_cast<ssize_t>(bytes.size())) return true;
  if (!std::exchange(warned_, true)) {
    log::warn("cannot write {}: {}; the run goes on, records are missing there", file_.string(),
              written < 0 ? std::strerror(errno) : "only part of a record fitted");
  }
  return false;
}

bool AppendFile::ends_without(char byte) const noexcept {
  const off_t size = ::lseek(fd_, 0, SEEK_END);
  char last = byte;
  return size > 0 && ::pread(fd_, &last, 1, size - 1) == 1 && last != byte;
}

}  // namespace tugline
