// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>

namespace tugline {

class Communicator;
class Heartbeat;

struct WatchdogOptions {
  /// Who stands still for longer hangs; 0: 20 times the longest step so far, at least `least_seconds`. Until the first step has ended, and
  /// while evaluating or saving, it is at least `patient_seconds`.
  double seconds = 0;
  double least_seconds = 60, patient_seconds = 1800;
  /// What is done about a hang, on the watchdog's thread of one rank: print, abort. `report` has many lines; the first names the guilty rank.
  std::function<void(const std::string& report)> on_hang;
};

/// A thread per rank that sees when the rank stands still. Rank 0's then asks all others where they are; who is busy for too long while the
/// others wait, or does not answer at all, is named, with every rank's stack. When rank 0 is the one that does not answer, another says so.
/// Ranks that only wait for one that is busy, but not for too long, are no hang.
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
