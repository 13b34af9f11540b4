// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

namespace tugline {

/// Made before a run's data and model are, so that no signal is lost on the way to the first step. While it lives, SIGUSR1, SIGTERM and
/// SIGINT set a flag instead of ending the process; the training loop sees it at the next step boundary, saves and stops. A second
/// SIGINT ends the process at once. Nothing else is done inside the handler. One at a time per process.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  /// Another signal (see signal_number.hpp) means the same from now on.
  void also(int signal);
  bool raised() const noexcept;

 private:
  std::vector<int> more_;
};

}  // namespace tugline
