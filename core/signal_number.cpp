// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/signal_number.hpp"

#include <array>
#include <csignal>
#include <utility>

namespace tugline {

int signal_number(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, int>, 6> kRequests{{
      {"USR2", SIGUSR2}, {"XCPU", SIGXCPU}, {"ALRM", SIGALRM}, {"HUP", SIGHUP}, {"QUIT", SIGQUIT}, {"PWR", SIGPWR}}};
  for (const auto& [known, number] : kRequests) {
    if (known == name) return number;
  }
  return -1;
}

}  // namespace tugline
