// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstring>

#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/store/trial_store.hpp"

namespace tugline::sweep {

std::string make_worker_id() {
  char host[65] = "host";
  ::gethostname(host, sizeof host - 1);
  std::string name(host);
  for (char& letter : name) {
    if (std::isalnum(static_cast<unsigned char>(letter)) == 0 && letter != '.') letter = '-';
  }
  std::uint64_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != sizeof random) {
    throw IoError(fmt::format("cannot get random bytes: {}", std::strerror(errno)));
  }
  return fmt::format("{}-{}-{:016x}", name, ::getpid(), random);
}

}  // namespace tugline::sweep
