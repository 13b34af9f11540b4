// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tugline/core/clock.hpp"
#include "tugline/trainers/sweep/store/files.hpp"

namespace tugline::sweep {

/// The right to run one attempt of a job, and to say how it ended.
struct Claim {
  std::int64_t job = 0;
  int attempt = 1;      ///< from 1
  int position = 0;     ///< of the claim in the job's chain
};

/// How an attempt ended.
struct AttemptEnd {
  bool final = true;       ///< the job has ended with it; else another attempt may be made
  std::string content;     ///< opaque to the store: JSON
};

/// What the store knows of a job. A job is a chain of entries: a claim with the decision what to do, then ends of attempts and further
/// claims. Each place of the chain belongs to whoever links a file there first, and nothing is ever changed afterwards.
struct Job {
  enum class State {
    running,   ///< somebody holds the newest claim
    open,      ///< its newest attempt has ended, and another may be made
    ended,
    damaged,   ///< an entry cannot be read; `damage` says which and why
  };
  std::int64_t number = 0;
  State state = State::running;
  std::string decision;                 ///< opaque: JSON
  int attempts = 1;                     ///< that were claimed
  std::string worker;                   ///< who holds, or held, the newest claim
  std::vector<AttemptEnd> ends;         ///< of attempts whose end was accepted, oldest first; a lost attempt has none
  int length = 1;                       ///< entries of the chain
  std::string damage;
};

struct StoreOptions {
  std::string worker;            ///< of this process: unique, letters, digits, '-' and '.'
  double lease_seconds = 120;    ///< a claim whose worker's counter has not moved for so long, by this process's clock, is lost
};

/// The jobs of a sweep, in a folder that any number of processes on any number of hosts share and nothing else: docs/sweep-store.md.
/// One thread per object; beat() may be called by another. Throws IoError when the file system says no; then the same call may be made
/// again, and nothing is half done.
class TrialStore {
 public:
  TrialStore(Files& files, std::filesystem::path folder, StoreOptions options, const Clock& clock = Clock::steady());
  ~TrialStore();

  /// Reads what others have committed since. Cheap when nothing has changed. Jobs 0 .. size()-1 exist.
  void refresh();
  std::int64_t size() const;
  const Job& job(std::int64_t number) const;

  /// The first number that has no job yet, found without reading those before it.
  std::int64_t next_number();
  /// Makes job `number` with this decision and claims its first attempt; nullopt: another process was first. Durable when it returns.
  std::optional<Claim> append(std::int64_t number, std::string_view decision);
  /// Claims another attempt of an open job, or of one whose worker has been silent for a lease; nullopt: it is neither, or another process
  /// was first. From then on the lost attempt's end is refused.
  std::optional<Claim> take_over(std::int64_t number);
  /// Whether take_over would try: open, or silent for a lease by this process's own clock.
  bool can_be_taken(std::int64_t number);
  /// Says how the attempt ended; false: the claim was lost to another, and nothing was written. The same call again after an error is safe.
  bool finish(const Claim& claim, const AttemptEnd& end);
  /// Whether the claim is still this process's: nobody has taken over.
  bool holds(const Claim& claim);
  /// Lets an ended job be attempted again; false: it has not ended, or another process was first.
  bool reopen(std::int64_t number, std::string_view why);

  /// Tells the others that this worker lives. Call it several times in a lease.
  void beat();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tugline::sweep
