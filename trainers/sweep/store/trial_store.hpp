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
  std::string worker;   ///< who made it
};

/// How an attempt ended.
struct AttemptEnd {
  bool final = true;       ///< the job has ended with it; else another attempt may be made
  std::string content;     ///< opaque to the store: JSON
  bool operator==(const AttemptEnd&) const = default;
};

/// What the store knows of a job. A job is a chain of entries: a claim with the decision what to do, then ends of attempts and further
/// claims. Each place of the chain belongs to whoever links a file there first, and nothing is ever changed afterwards.
struct Job {
  enum class State {
    running,   ///< somebody holds the newest claim
    open,      ///< its newest attempt has ended, and another may be made
    ended,
    damaged,   ///< an entry cannot be read, and the job has to be taken over: it runs again
  };
  std::int64_t number = 0;
  State state = State::running;
  std::string decision;                 ///< opaque: JSON; empty when it is damaged
  int attempts = 1;                     ///< that were claimed
  std::string worker;                   ///< who holds, or held, the newest claim
  std::vector<AttemptEnd> ends;         ///< of attempts whose end was accepted, oldest first; a lost attempt has none
  int length = 1;                       ///< entries of the chain
  std::string damage;                   ///< the newest entry that cannot be read and why, also after the job went on; empty: none
};

struct StoreOptions {
  std::string worker;            ///< of this object: unique (make_worker_id()), letters, digits, '-' and '.'
  double lease_seconds = 120;    ///< a claim whose worker's counter has not moved for so long, by this process's clock, is lost
};

/// The jobs of a sweep, in a folder that any number of processes on any number of hosts share and nothing else: docs/sweep-store.md.
/// One thread per object; beat() may be called by another. Throws IoError when the file system says no; then the same call may be made
/// again, and nothing is half done. Writes nothing, not even the folder, before the first append(), take_over(), reopen() or beat().
class TrialStore {
 public:
  TrialStore(Files& files, std::filesystem::path folder, StoreOptions options, const Clock& clock = Clock::steady());
  ~TrialStore();

  /// Reads what others have committed since. Cheap when nothing has changed. Jobs 0 .. size()-1 exist. Rests for moments first, a second or
  /// two at most, when this process has just lost races or seen others at work, so that many do not write and read in vain.
  void refresh();
  std::int64_t size() const;
  /// As last read, by refresh() or by a call that names the job. Valid until the next call that is not const.
  const Job& job(std::int64_t number) const;

  /// Makes job `number`, at most size(), with this decision and claims its first attempt; nullopt: another process was first, or is writing
  /// it now. Durable when it returns. A claim with a lease of its own is lost when that has passed since a watcher first
  /// saw it, whether its worker beats or not; one without, when its worker is silent.
  std::optional<Claim> append(std::int64_t number, std::string_view decision, std::optional<double> lease_seconds = {});
  /// Claims another attempt of an open or damaged job, or of one whose worker has been silent for a lease; nullopt: it is none of them, or
  /// another process was first, or its decision is lost. From then on the lost attempt's end is refused. A claim that this process made in
  /// a call that threw is handed out, too, as it was.
  std::optional<Claim> take_over(std::int64_t number, std::optional<double> lease_seconds = {});
  /// The same for a job whose decision is lost (damaged, and `decision` is empty) and for no other: brings a new one.
  std::optional<Claim> take_over(std::int64_t number, std::string_view decision, std::optional<double> lease_seconds = {});
  /// Whether take_over would try: open, damaged, or silent for a lease by this process's own clock.
  bool can_be_taken(std::int64_t number);
  /// The newest claim of a running job, whoever made it: for a process that finishes what another has begun (ask and tell).
  std::optional<Claim> newest_claim(std::int64_t number) const;
  /// Says how the attempt ended; false: the claim was lost to another, and nothing was written. The same call again after an error is safe.
  bool finish(const Claim& claim, const AttemptEnd& end);
  /// Whether the claim is still this process's: it has not ended, and nobody has taken over.
  bool holds(const Claim& claim);
  /// Lets an ended job be attempted again; false: it has not ended, or another process was first.
  bool reopen(std::int64_t number, std::string_view why);

  /// Tells the others that this worker lives. Call it several times in a lease. The first claim without a lease of its own does it, too.
  void beat();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// HOST-PID-RANDOM: no two processes ever have the same, so what a restarted one finds of its own is another's.
std::string make_worker_id();

}  // namespace tugline::sweep
