// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/store/trial_store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "tugline/core/error.hpp"
#include "tugline/core/random.hpp"
#include "tugline/trainers/sweep/store/chain.hpp"
#include "tugline/trainers/sweep/store/commit.hpp"
#include "tugline/trainers/sweep/store/heartbeat.hpp"
#include "tugline/trainers/sweep/store/journal.hpp"

namespace tugline::sweep {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kJobsPerFolder = 1000;
constexpr double kRestSeconds = 0.0005;   // about a commit on a local disk, where there is no crowd
constexpr int kCrowdOfTwice = 4;          // as many more, and a rest is twice as long
constexpr int kMostCrowd = 9 * kCrowdOfTwice, kMostRests = 8;
constexpr int kLostRace = 4, kOwnCommit = -6;   // what they say of the crowd; to see another at work: 1
constexpr double kPatienceSeconds = 1;    // with one who is writing: it may be dead

/// "000123.2": the name of an entry, and of the mark that says where to look.
std::string entry_name(std::int64_t number, int position) { return fmt::format("{:06}.{}", number, position); }

void check_worker(const std::string& worker) {
  const auto allowed = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.'; };
  if (worker.empty() || worker.front() == '.' || !std::all_of(worker.begin(), worker.end(), allowed)) {
    throw Error(fmt::format("'{}' cannot be the name of a worker: letters, digits, '-' and '.' can", worker));
  }
}

}  // namespace

struct TrialStore::Impl {
  Impl(Files& files, fs::path folder, StoreOptions options, const Clock& clock)
      : files(files), folder(std::move(folder)), worker(options.worker), clock(clock), committer(files, this->folder, worker),
        journal(files, this->folder / "journal"), heartbeat(files, this->folder / "workers", worker),
        watch(files, this->folder / "workers", options.lease_seconds) {
    check_worker(worker);
  }

  std::int64_t size() const { return static_cast<std::int64_t>(chains.size()); }

  /// The claim at the end of a running job's chain.
  static Claim claim_on(const Job& job) {
    return {.job = job.number, .attempt = job.attempts, .position = job.length - 1, .worker = job.worker};
  }

  fs::path place(std::int64_t number, int position) const {
    return folder / fmt::format("jobs/{:03}/{}", number / kJobsPerFolder, entry_name(number, position));
  }

  /// Reads what the chain has grown by; up to the job's end: what may come behind it has a mark.
  void advance(Chain& chain) {
    while (chain.job().state != Job::State::ended && advance_by_one(chain)) continue;
  }

  void advance_past_the_end(Chain& chain) {
    while (advance_by_one(chain)) continue;
  }

  bool advance_by_one(Chain& chain) {
    const std::int64_t number = chain.job().number;
    const int position = chain.job().length;
    if (auto entry = heard.extract({number, position})) {
      add(chain, std::move(entry.mapped()));
      return true;
    }
    const auto text = files.read(place(number, position));
    if (!text) return false;
    add(chain, read_entry(*text, number, position));
    listen();
    return true;
  }

  void add(Chain& chain, std::variant<Entry, Damage> read) {
    chain.add(std::move(read), clock.seconds(), [&] { return place(chain.job().number, chain.job().length).string(); });
  }

  /// Where one thing is new, more are. Once in a refresh.
  void listen() {
    if (std::exchange(has_listened, true)) return;
    for (Entry& entry : journal.read_on()) {
      const std::pair place(entry.job, entry.position);
      heard.insert_or_assign(place, std::move(entry));
    }
  }

  void forget_known() {
    std::erase_if(heard, [this](const auto& entry) {
      const auto [number, position] = entry.first;
      return number >= 0 && number < size() && position < chains[static_cast<std::size_t>(number)].job().length;
    });
  }

  /// Reads jobs that are new.
  void grow() {
    while (true) {
      Chain next(size());
      advance(next);
      if (next.job().length == 0) return;
      chains.push_back(std::move(next));
    }
  }

  /// Jobs that ended and went on all the same leave a mark, so that ended ones need not be looked at.
  void read_marks() {
    for (const std::string& name : files.list(folder / "again")) {
      std::int64_t number = 0;
      int position = 0;
      const auto [dot, error] = std::from_chars(name.data(), name.data() + name.size(), number);
      if (error != std::errc() || dot == name.data() + name.size() || *dot != '.') continue;
      std::from_chars(dot + 1, name.data() + name.size(), position);
      if (number >= size()) continue;
      Chain& chain = chains[static_cast<std::size_t>(number)];
      if (chain.job().length <= position) advance_past_the_end(chain);
    }
  }

  void mark(std::int64_t number, int position) {
    const fs::path marks = folder / "again";
    committer.need_folder(marks);
    files.append(marks / entry_name(number, position), "");
    files.sync_folder(marks);
  }

  Chain& chain_of(std::int64_t number) {
    if (number < 0 || number >= size()) throw Error(fmt::format("there is no job {} in the store", number));
    return chains[static_cast<std::size_t>(number)];
  }

  Chain& advanced(std::int64_t number) {
    Chain& chain = chain_of(number);
    advance_past_the_end(chain);
    return chain;
  }

  /// Whether the place is now this entry's.
  bool commit(Entry entry) {
    const std::string text = to_text(entry);
    const auto outcome = committer.commit(place(entry.job, entry.position), text);
    if (outcome == Committer::Outcome::raced) learn_of_crowd(kLostRace);
    if (outcome != Committer::Outcome::made) return false;
    learn_of_crowd(kOwnCommit);
    journal.add(text);
    if (entry.job == size() && entry.position == 0) chains.emplace_back(entry.job);
    Chain& chain = chain_of(entry.job);
    if (chain.job().length == entry.position) add(chain, std::move(entry));
    return true;
  }

  void learn_of_crowd(int change) { crowd = std::clamp(crowd + change, 0, kMostCrowd); }

  /// So that many do not write in vain, and do not read for nothing: while another makes a job.
  void rest() {
    for (int i = 0; i < kMostRests && crowd > 0; ++i) {
      Random random(std::hash<std::string>()(worker), Purpose::search, rests++);
      files.wait(kRestSeconds * random.uniform() * std::exp2(static_cast<double>(crowd) / kCrowdOfTwice));
      if (!defers(size())) return;
    }
  }

  /// Where many race for the next number, whoever sees another at it lets it be, and saves both the disk's time.
  bool defers(std::int64_t number) {
    if (!committer.is_job_being_made(number)) return false;
    const double now = clock.seconds();
    if (number != deferred) deferred_since = now;
    deferred = number;
    learn_of_crowd(1);
    return now - deferred_since < kPatienceSeconds;
  }

  std::optional<Claim> commit_claim(const Entry& entry) {
    if (!entry.lease_seconds && !heartbeat.has_begun()) heartbeat.beat();
    if (!commit(entry)) return std::nullopt;
    handed_out.insert({entry.job, entry.position});
    return Claim{.job = entry.job, .attempt = entry.attempt, .position = entry.position, .worker = worker};
  }

  bool is_lost(const Chain& chain) {
    const Job& job = chain.job();
    if (job.worker == worker) return !handed_out.contains({job.number, job.length - 1});   // made by a call that threw
    const double now = clock.seconds();
    if (const auto lease = chain.claim_lease()) return now - chain.claim_seen() >= *lease;
    return watch.is_silent(job.worker, chain.claim_seen(), now);
  }

  bool can_be_taken(const Chain& chain) {
    switch (chain.job().state) {
      case Job::State::running: return is_lost(chain);
      case Job::State::open:
      case Job::State::damaged: return true;
      case Job::State::ended: return false;
    }
    return false;
  }

  std::optional<Claim> take_over(std::int64_t number, std::optional<std::string_view> decision, std::optional<double> lease_seconds) {
    Chain& chain = advanced(number);
    if (chain.job().state == Job::State::damaged) {   // what could not be read may have been a passing fault
      Chain again(number);
      advance_past_the_end(again);
      chain = std::move(again);
    }
    if (!can_be_taken(chain) || decision.has_value() != chain.has_lost_decision()) return std::nullopt;
    const Job job = chain.job();
    const bool was_running = job.state == Job::State::running;
    if (was_running && job.worker == worker) {
      handed_out.insert({number, job.length - 1});
      return claim_on(job);
    }
    if (job.state == Job::State::damaged) mark(number, job.length);   // others may read it as ended
    const auto claim = commit_claim({.kind = Entry::Kind::claim, .job = number, .position = job.length, .attempt = job.attempts + 1,
                                     .worker = worker, .decides = decision.has_value(), .voids = chain.ends_damaged(),
                                     .lease_seconds = lease_seconds, .content = std::string(decision.value_or(""))});
    if (claim && was_running && !chain.claim_lease()) committer.sweep_up_after(job.worker);
    return claim;
  }

  Files& files;
  const fs::path folder;
  const std::string worker;
  const Clock& clock;
  Committer committer;
  Journal journal;
  Heartbeat heartbeat;
  Watch watch;
  std::vector<Chain> chains;
  std::map<std::pair<std::int64_t, int>, Entry> heard;   // by job and position: from the journal, not yet in a chain
  bool has_listened = false;     // since the last refresh began
  std::set<std::pair<std::int64_t, int>> handed_out;   // job and position of claims
  int crowd = 0;                 // at the next number, as far as this process has seen: races lost, others at work
  std::int64_t deferred = -1;    // the number last left to another, and since when
  double deferred_since = 0;
  std::uint64_t rests = 0;
};

TrialStore::TrialStore(Files& files, fs::path folder, StoreOptions options, const Clock& clock)
    : impl_(std::make_unique<Impl>(files, std::move(folder), std::move(options), clock)) {}
TrialStore::~TrialStore() = default;

void TrialStore::refresh() {
  impl_->rest();
  impl_->has_listened = false;
  for (Chain& chain : impl_->chains) {
    if (chain.job().state != Job::State::ended) impl_->advance(chain);
  }
  impl_->grow();
  impl_->read_marks();
  impl_->forget_known();
}

std::int64_t TrialStore::size() const { return impl_->size(); }
const Job& TrialStore::job(std::int64_t number) const { return impl_->chain_of(number).job(); }

std::optional<Claim> TrialStore::append(std::int64_t number, std::string_view decision, std::optional<double> lease_seconds) {
  if (number > size()) {
    throw Error(fmt::format("job {} cannot be made before job {}", number, number - 1));
  }
  if (impl_->defers(number)) return std::nullopt;
  return impl_->commit_claim({.kind = Entry::Kind::claim, .job = number, .position = 0, .attempt = 1, .worker = impl_->worker, .decides = true,
                              .lease_seconds = lease_seconds, .content = std::string(decision)});
}

std::optional<Claim> TrialStore::take_over(std::int64_t number, std::optional<double> lease_seconds) {
  return impl_->take_over(number, std::nullopt, lease_seconds);
}

std::optional<Claim> TrialStore::take_over(std::int64_t number, std::string_view decision, std::optional<double> lease_seconds) {
  return impl_->take_over(number, decision, lease_seconds);
}

bool TrialStore::can_be_taken(std::int64_t number) { return impl_->can_be_taken(impl_->advanced(number)); }

std::optional<Claim> TrialStore::newest_claim(std::int64_t number) const {
  const Job& job = impl_->chain_of(number).job();
  return job.state == Job::State::running ? std::optional(Impl::claim_on(job)) : std::nullopt;
}

bool TrialStore::finish(const Claim& claim, const AttemptEnd& end) {
  return impl_->commit({.kind = Entry::Kind::end, .job = claim.job, .position = claim.position + 1, .attempt = claim.attempt,
                        .worker = claim.worker, .final = end.final, .content = end.content});
}

bool TrialStore::holds(const Claim& claim) { return !impl_->files.exists(impl_->place(claim.job, claim.position + 1)); }

bool TrialStore::reopen(std::int64_t number, std::string_view why) {
  const Job job = impl_->advanced(number).job();
  if (job.state != Job::State::ended) return false;
  impl_->mark(number, job.length);
  return impl_->commit({.kind = Entry::Kind::reopen, .job = number, .position = job.length, .attempt = job.attempts,
                        .worker = impl_->worker, .content = std::string(why)});
}

void TrialStore::beat() { impl_->heartbeat.beat(); }

}  // namespace tugline::sweep
