// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>

namespace tugline {

class Communicator;
class Heartbeat;

struct WatchdogOptions {
  /// A phase that takes longer is a hang; 0: 20 times the longest so far, at least `least_seconds`, and `first_seconds` while there was none.
  double seconds = 0;
  double least_seconds = 60, first_seconds = 1800;
  /// What is done about a hang, on the watchdog's thread of one rank: print, abort. `report` has many lines; the first names the guilty rank.
  std::function<void(const std::string& report)> on_hang;
};

/// A thread per rank that sees when the rank no longer moves. Rank 0's then asks all others where they stand; who computes while the others
/// wait for it, or does not answer at all, is named, with every rank's stack. When rank 0 is the one that does not answer, the others say so.
///
/// Time in which the whole process stood still (a debugger, Ctrl-Z, a sleeping machine) does not count.
class Watchdog {
 public:
  /// `channel`: all ranks, used by nobody else. Watches the thread that makes this. Everything must outlive it.
  Watchdog(std::unique_ptr<Communicator> channel, const Heartbeat& heartbeat, WatchdogOptions options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tugline
