// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/launch/signal_inbox.hpp"

#include <algorithm>
#include <cmath>

namespace tugline {

SignalInbox::SignalInbox(const std::vector<int>& more) {
  std::signal(SIGCHLD, SIG_DFL);   // ignored, children would be buried before anybody has looked
  sigemptyset(&set_);
  std::vector<int> numbers{SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD};
  numbers.insert(numbers.end(), more.begin(), more.end());
  for (const int number : numbers) {
    struct sigaction action {};
    sigaction(number, nullptr, &action);
    if (action.sa_handler != SIG_IGN) sigaddset(&set_, number);   // nohup wants no SIGHUP
  }
  sigprocmask(SIG_BLOCK, &set_, &before_);
}

SignalInbox::~SignalInbox() { sigprocmask(SIG_SETMASK, &before_, nullptr); }

std::optional<int> SignalInbox::next(double seconds) {
  const double wait = std::max(seconds, 0.0);
  timespec timeout{};
  timeout.tv_sec = static_cast<time_t>(wait);
  timeout.tv_nsec = static_cast<long>(1e9 * (wait - std::floor(wait)));
  const int number = sigtimedwait(&set_, nullptr, &timeout);
  if (number <= 0 || number == SIGCHLD) return std::nullopt;
  return number;
}

}  // namespace tugline
