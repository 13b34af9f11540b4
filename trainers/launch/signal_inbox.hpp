// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <optional>
#include <vector>

namespace tugline {

/// While it lives, signals that ask to stop, and news of children, wait until next() takes them: nothing happens between two lines of code.
/// For a process whose only thread this is; one at a time.
class SignalInbox {
 public:
  /// `more`: signals that ask to stop too.
  explicit SignalInbox(const std::vector<int>& more = {});
  ~SignalInbox();
  SignalInbox(const SignalInbox&) = delete;
  SignalInbox& operator=(const SignalInbox&) = delete;

  /// The next SIGINT, SIGTERM, SIGHUP, SIGUSR1 or other request that has arrived; nullopt after `seconds`, or when something happened to a child.
  std::optional<int> next(double seconds);

 private:
  sigset_t set_{}, before_{};
};

}  // namespace tugline
