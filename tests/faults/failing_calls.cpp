// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/faults/failing_calls.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <set>
#include <string_view>

namespace tugline {
namespace {

struct Plan {
  Call call = Call::open;
  int number = 0, error = 0;   // number 0: nothing is to fail
};
Plan g_plan;
std::array<int, 5> g_made{};
std::set<int>& ours() {   // descriptors of checkpoints' files
  static std::set<int> descriptors;
  return descriptors;
}

bool is_checkpoint(const char* path) { return std::string_view(path).find("/step-") != std::string_view::npos; }

/// Counts a call; true when this one is to fail.
bool due(Call call) {
  const int made = ++g_made[static_cast<std::size_t>(call)];
  if (g_plan.number == 0 || g_plan.call != call || made != g_plan.number) return false;
  g_plan.number = 0;
  errno = g_plan.error;
  return true;
}

template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

void fail_call(Call call, int number, int error) {
  g_plan = {call, number, error};
  g_made = {};
}
int calls_made(Call call) { return g_made[static_cast<std::size_t>(call)]; }
bool failure_is_due() { return g_plan.number != 0; }

}  // namespace tugline

using tugline::Call;

extern "C" {

int open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = va_arg(more, mode_t);
  va_end(more);
  const bool for_writing = tugline::is_checkpoint(path) && (flags & O_CREAT) != 0;
  if (for_writing && tugline::due(Call::open)) return -1;
  const int fd = tugline::next<int(const char*, int, ...)>("open")(path, flags, mode);
  if (for_writing && fd >= 0) tugline::ours().insert(fd);
  return fd;
}

ssize_t write(int fd, const void* data, size_t bytes) {
  const auto real = tugline::next<ssize_t(int, const void*, size_t)>("write");
  if (tugline::ours().count(fd) == 0 || !tugline::due(Call::write)) return real(fd, data, bytes);
  return errno == 0 ? real(fd, data, bytes / 2) : -1;
}

int fsync(int fd) {
  if (tugline::ours().count(fd) > 0 && tugline::due(Call::fsync)) return -1;
  return tugline::next<int(int)>("fsync")(fd);
}

int close(int fd) {
  const bool fails = tugline::ours().erase(fd) > 0 && tugline::due(Call::close);
  const int error = errno;
  const int result = tugline::next<int(int)>("close")(fd);
  errno = fails ? error : errno;
  return fails ? -1 : result;
}

int rename(const char* from, const char* to) {
  if (tugline::is_checkpoint(to) && tugline::due(Call::rename)) return -1;
  return tugline::next<int(const char*, const char*)>("rename")(from, to);
}

}
