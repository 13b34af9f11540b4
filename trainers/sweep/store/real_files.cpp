// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>

#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/store/files.hpp"

namespace tugline::sweep {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const char* what, const fs::path& file, int error) {
  throw IoError(fmt::format("cannot {} {}: {}", what, file.string(), std::strerror(error)));
}

bool is_absent(int error) { return error == ENOENT || error == ENOTDIR; }

/// A file descriptor; -1 with errno where the file cannot be opened.
class Descriptor {
 public:
  Descriptor(const fs::path& file, int flags) : fd_(::open(file.c_str(), flags | O_CLOEXEC, 0666)) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  /// NFS says only here that a write did not get through. 0 or errno.
  int close() { return fd_ < 0 || ::close(std::exchange(fd_, -1)) == 0 ? 0 : errno; }

 private:
  int fd_;
};

/// 0 or errno.
int write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno != EINTR) return errno;
    if (written > 0) bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

class RealFiles final : public Files {
 public:
  void write_new(const fs::path& file, std::string_view content) override {
    Descriptor descriptor(file, O_WRONLY | O_CREAT | O_EXCL);
    if (descriptor.get() < 0) fail("make", file, errno);
    int error = write_all(descriptor.get(), content);
    if (error == 0 && ::fsync(descriptor.get()) != 0) error = errno;
    if (const int closing = descriptor.close(); error == 0) error = closing;
    if (error != 0) fail("write", file, error);
  }

  int link(const fs::path& from, const fs::path& to) override { return ::link(from.c_str(), to.c_str()) == 0 ? 0 : errno; }

  std::optional<std::int64_t> link_count(const fs::path& file) override {
    const Descriptor descriptor(file, O_RDONLY);   // opening it makes an NFS client ask the server
    if (descriptor.get() < 0 && is_absent(errno)) return std::nullopt;
    struct stat status{};
    if (descriptor.get() < 0 || ::fstat(descriptor.get(), &status) != 0) fail("look at", file, errno);
    return static_cast<std::int64_t>(status.st_nlink);
  }

  std::optional<std::int64_t> size(const fs::path& file) override {
    struct stat status{};
    if (::stat(file.c_str(), &status) == 0) return static_cast<std::int64_t>(status.st_size);
    if (!is_absent(errno)) fail("look at", file, errno);
    return std::nullopt;
  }

  std::optional<std::string> read(const fs::path& file, std::int64_t from) override {
    const Descriptor descriptor(file, O_RDONLY);
    if (descriptor.get() < 0 && is_absent(errno)) return std::nullopt;
    if (descriptor.get() < 0) fail("open", file, errno);
    std::string content;
    char piece[16384];
    while (true) {
      const ssize_t got = ::pread(descriptor.get(), piece, sizeof piece, from + static_cast<off_t>(content.size()));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail("read", file, errno);
      if (got == 0) return content;
      content.append(piece, static_cast<std::size_t>(got));
    }
  }

  void append(const fs::path& file, std::string_view bytes) override {
    Descriptor descriptor(file, O_WRONLY | O_CREAT | O_APPEND);
    if (descriptor.get() < 0) fail("open", file, errno);
    int error = write_all(descriptor.get(), bytes);
    if (const int closing = descriptor.close(); error == 0) error = closing;
    if (error != 0) fail("write", file, error);
  }

  void make_folder(const fs::path& folder) override {
    if (exists(folder)) return;
    const fs::path above = folder.has_parent_path() ? folder.parent_path() : fs::path(".");
    if (above != folder) make_folder(above);
    if (::mkdir(folder.c_str(), 0777) != 0 && errno != EEXIST) fail("make the folder", folder, errno);
    sync_folder(above);
  }

  void sync_folder(const fs::path& folder) override {
    const Descriptor descriptor(folder, O_RDONLY | O_DIRECTORY);
    if (descriptor.get() < 0) fail("open", folder, errno);
    // Some file systems know no fsync of folders: there a link is as durable as they make it.
    if (::fsync(descriptor.get()) != 0 && errno != EINVAL && errno != ENOTSUP) fail("sync", folder, errno);
  }

  void remove(const fs::path& file) override {
    if (::unlink(file.c_str()) != 0 && !is_absent(errno)) fail("remove", file, errno);
  }

  std::vector<std::string> list(const fs::path& folder) override {
    std::vector<std::string> names;
    const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(folder.c_str()), ::closedir);
    if (open == nullptr && is_absent(errno)) return names;
    if (open == nullptr) fail("list", folder, errno);
    errno = 0;
    while (const dirent* const entry = ::readdir(open.get())) {
      if (entry->d_name != std::string_view(".") && entry->d_name != std::string_view("..")) names.emplace_back(entry->d_name);
    }
    if (errno != 0) fail("list", folder, errno);
    std::sort(names.begin(), names.end());
    return names;
  }

  void wait(double seconds) override { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }
};

}  // namespace

Files& real_files() {
  static RealFiles files;
  return files;
}

}  // namespace tugline::sweep
