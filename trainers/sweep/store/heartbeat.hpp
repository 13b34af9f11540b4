// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>

#include "tugline/trainers/sweep/store/files.hpp"

namespace tugline::sweep {

/// A worker's counter, which says that it lives: an append log that only this worker writes. Thread-safe.
class Heartbeat {
 public:
  Heartbeat(Files& files, std::filesystem::path folder, std::string worker)
      : files_(files), folder_(std::move(folder)), file_(folder_ / worker) {}

  void beat();
  bool has_begun();

 private:
  Files& files_;
  std::filesystem::path folder_, file_;
  std::mutex mutex_;
  std::uint64_t counter_ = 0;
  std::size_t size_ = 0;
  bool fresh_ = true;   // the log is to be begun anew: there is none, or its end may be torn
};

/// Watches the counters of others by its own clock alone: hosts' clocks are never compared. One thread.
class Watch {
 public:
  Watch(Files& files, std::filesystem::path folder, double lease_seconds)
      : files_(files), folder_(std::move(folder)), lease_seconds_(lease_seconds) {}

  /// Whether the counter has stood still for a lease, since it was last seen moving or since `since`, whichever is later.
  bool is_silent(const std::string& worker, double since, double now);

 private:
  struct Seen {
    std::uint64_t counter;
    double moved, looked;
  };
  std::uint64_t counter_of(const std::string& worker);

  Files& files_;
  std::filesystem::path folder_;
  double lease_seconds_;
  std::map<std::string, Seen> seen_;
};

}  // namespace tugline::sweep
