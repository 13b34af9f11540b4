// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "tugline/core/clock.hpp"
#include "tugline/core/random.hpp"
#include "tugline/trainers/sweep/store/files.hpp"

namespace tugline::sweep {

enum class Fault { late_lookup, late_listing, stale_read, lost_reply, false_exists, no_space, io_error, crash, zombie, count };
inline constexpr std::array kFaultNames{"late lookup",  "late listing", "stale read", "lost reply", "link made but 'exists'",
                                        "no space left", "I/O error",   "crash",      "zombie"};
using FaultCounts = std::array<std::int64_t, static_cast<std::size_t>(Fault::count)>;

/// What a client's thread ends with at a crash: no exception of the standard, so that nothing takes it for an error it may handle.
struct Crash {};
/// The schedule has taken too long.
struct Stall {};

/// A file server, its clients and the time, all of one thread at a time: each call on files is a point where another client may go on.
/// Everything that happens is a function of the seed.
class Shim {
 public:
  explicit Shim(std::uint64_t seed, bool with_faults = true);
  ~Shim();

  /// Runs all programs, each with its own files and clock, until all have returned. False: they did not within `most_steps`.
  using Program = std::function<void(Files&, const Clock&, Random&)>;
  bool run(const std::vector<Program>& programs, std::int64_t most_steps);
  /// Without faults, at once: for whoever looks at what came of it.
  Files& calm_files();
  const Clock& calm_clock();
  /// Names that nobody made durable are gone.
  void cut_power();

  const FaultCounts& faults() const { return faults_; }
  double call_seconds = 0.01;   ///< of the simulated time, on average
  std::int64_t calls = 0, writes = 0;   ///< of all clients: of anything; of write_new()

 private:
  class Client;
  struct Inode {
    std::string content, before;   // before: the last append
    int links = 1;
  };
  struct Name {
    std::shared_ptr<Inode> inode;
    bool durable = false;
    std::map<int, double> seen_from, listed_from;   // by client, for whom it is late
  };

  bool happens(Fault fault);
  void yield(int client);

  Random random_;
  std::array<double, static_cast<std::size_t>(Fault::count)> chance_{};
  FaultCounts faults_{};
  double now_ = 1;
  bool calm_ = false, stalled_ = false;
  std::map<std::string, Name> names_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::unique_ptr<Client> calm_client_;
  std::binary_semaphore back_{0};
};

}  // namespace tugline::sweep
