// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/launch/supervisor.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <fstream>
#include <map>
#include <optional>
#include <utility>

#include <boost/json.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/log.hpp"
#include "tugline/core/metrics/json_text.hpp"
#include "tugline/trainers/launch/leftovers.hpp"
#include "tugline/trainers/launch/process_tree.hpp"
#include "tugline/trainers/launch/signal_inbox.hpp"
#include "tugline/trainers/run/run_directory.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr int kFailuresOfACheckpoint = 2;
constexpr double kLookSeconds = 10;      // at least so often at what mpirun does
constexpr double kAskAgainSeconds = 1;   // a request may come when mpirun has not yet started the ranks

/// One line of a run's attempts.jsonl.
struct Attempt {
  int number = 1;
  std::string started;        ///< UTC
  double seconds = 0;
  int ranks = 0;
  std::string hosts;          ///< "a:2,b:2"; empty: none were named
  std::int64_t from_step = 0; ///< of the newest checkpoint when it began
  std::int64_t to_step = 0;   ///< and when it ended
  int exit_code = 0;
  int killed = 0;             ///< processes that were left behind
  std::string next;           ///< "done", "stopped", "restart", "give up"
  std::string note;           ///< what was done about it; may be empty
};

/// A restart would end in the same way. `first`: no attempt of this launch has run with this command line.
bool is_final(int exit_code, bool first) {
  switch (static_cast<ExitCode>(exit_code)) {
    case ExitCode::usage: return first;   // later it says that the folder is in use, by what a dead host has left
    case ExitCode::done:
    case ExitCode::check_said_no:
    case ExitCode::bad_data:
    case ExitCode::run_again:
    case ExitCode::config: return true;
    default: return false;
  }
}

/// Which file that is; another one after it has been written anew. {}: there is none.
using Identity = std::pair<ino_t, std::int64_t>;
Identity identity_of(const fs::path& file) {
  struct stat facts {};
  if (::stat(file.c_str(), &facts) != 0) return {};
  return {facts.st_ino, 1'000'000'000 * static_cast<std::int64_t>(facts.st_ctim.tv_sec) + facts.st_ctim.tv_nsec};
}

std::uintmax_t size_of_file(const fs::path& file) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(file, error);
  return error ? 0 : size;
}

/// The checkpoint that events after byte `offset` of metrics.jsonl say was loaded; empty: none.
fs::path loaded_since(const fs::path& metrics, std::uintmax_t offset) {
  fs::path loaded;
  std::ifstream in(metrics, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(offset));
  for (std::string line; std::getline(in, line);) {
    if (line.find("\"loading\"") == line.npos) continue;
    boost::system::error_code error;
    const json::value event = json::parse(line, error);
    if (error || !event.is_object()) continue;
    const json::value* const file = event.as_object().if_contains("checkpoint");
    if (file != nullptr && file->is_string()) loaded = std::string(file->as_string());
  }
  return loaded;
}

int number_of_lines(const fs::path& file) {
  std::ifstream in(file);
  return static_cast<int>(std::count(std::istreambuf_iterator<char>(in), {}, '\n'));
}

class Supervisor {
 public:
  explicit Supervisor(const LaunchOptions& options)
      : options_(options), paths_(options.run_dir), hosts_(options.hosts), ranks_(options.ranks),
        old_config_(identity_of(paths_.config())),
        begins_anew_(!options.only_the_first_time.empty()), best_step_(newest_step()), number_(number_of_lines(account())),
        inbox_(options.stop_signals) {
    adopt_orphans();
  }
  int run();

 private:
  fs::path account() const { return paths_.folder() / "attempts.jsonl"; }
  std::int64_t newest_step() const;
  std::vector<std::string> command() const;
  bool find_hosts(Attempt& attempt);
  void take_signal(int number);
  int wait_for(ProcessTree& tree);
  void pause(double seconds);
  void make(Attempt& attempt);
  void blame_checkpoint(const fs::path& loaded, Attempt& attempt);
  void write(const Attempt& attempt);
  void say(const Attempt& attempt, double pause_seconds) const;

  const LaunchOptions& options_;
  RunPaths paths_;
  std::vector<HostSlots> hosts_;
  int ranks_;
  Identity old_config_;                      // of the run that is to be deleted
  bool begins_anew_;                        // and has not yet been
  std::int64_t best_step_;                  // of any attempt
  std::vector<std::string> unwritten_;      // lines of the account, until there is a run
  int number_;                              // of attempts so far, earlier launches' included
  int restarts_ = 0;                        // without progress
  bool first_ = true;
  std::map<std::string, int> failures_;     // per checkpoint, since it was written
  SignalInbox inbox_;
  bool asked_ = false, now_ = false;        // to stop
  double deadline_ = 0;
};

std::int64_t Supervisor::newest_step() const {
  if (begins_anew_) return 0;   // what is there will be deleted
  try {
    const auto entries = CheckpointFolder(paths_.checkpoints()).list();
    return entries.empty() ? 0 : entries.back().step;
  } catch (const CheckpointError& error) {   // a file system that is away for a moment
    log::warn("{}", error.what());
    return best_step_;
  }
}

std::vector<std::string> Supervisor::command() const {
  std::vector<std::string> words = options_.mpirun;
  words.insert(words.end(), {"-n", std::to_string(ranks_)});
  if (!hosts_.empty()) words.insert(words.end(), {"--host", host_argument(hosts_)});
  words.insert(words.end(), options_.program.begin(), options_.program.end());
  if (begins_anew_) words.insert(words.end(), options_.only_the_first_time.begin(), options_.only_the_first_time.end());
  return words;
}

/// After a failure: who is still there? False: too few.
bool Supervisor::find_hosts(Attempt& attempt) {
  if (first_ || options_.hosts.empty()) return true;
  hosts_ = reachable(options_.hosts, options_.mpirun);
  ranks_ = std::min(options_.ranks, slots_of(hosts_));
  if (hosts_.size() < options_.hosts.size()) {
    attempt.note = fmt::format("of {} only {} answer", host_argument(options_.hosts), hosts_.empty() ? "none" : host_argument(hosts_));
    log::warn("{}", attempt.note);
  }
  return ranks_ >= options_.min_ranks && ranks_ > 0;
}

void Supervisor::take_signal(int number) {
  now_ = now_ || (asked_ && number == SIGINT);
  if (asked_) return;
  asked_ = true;
  deadline_ = Clock::steady().seconds() + options_.grace_seconds;
  log::info("{}: all ranks are asked to save and stop{}", describe_exit(128 + number), number == SIGINT ? "; Ctrl-C again stops at once" : "");
}

int Supervisor::wait_for(ProcessTree& tree) {
  double asked_at = -kAskAgainSeconds;
  while (!tree.exit_code()) {
    const double before = Clock::steady().seconds();
    if (const auto number = inbox_.next(asked_ ? std::min(kAskAgainSeconds, deadline_ - before) : kLookSeconds)) take_signal(*number);
    const double now = Clock::steady().seconds();
    if (asked_ && now - asked_at >= kAskAgainSeconds) {
      tree.signal(SIGUSR1);
      asked_at = now;
    }
    const bool stuck = tree.is_stuck(now);
    if (stuck) log::warn("mpirun has not noticed for half a minute that a rank has ended, and is killed");
    if (stuck || now_ || (asked_ && now >= deadline_)) tree.kill();
  }
  return *tree.exit_code();
}

void Supervisor::pause(double seconds) {
  const double end = Clock::steady().seconds() + seconds;
  for (double now = Clock::steady().seconds(); now < end && !asked_; now = Clock::steady().seconds()) {
    if (const auto number = inbox_.next(end - now)) take_signal(*number);
  }
}

/// Starts mpirun, waits for its end and clears what is left.
void Supervisor::make(Attempt& attempt) {
  const double start = Clock::steady().seconds();
  {
    const SessionFolder session;
    ProcessTree tree(command(), {{"TMPDIR", session.path().string()}});
    attempt.exit_code = wait_for(tree);
    attempt.killed = tree.kill();
  }
  clear_shared_memory();
  attempt.seconds = Clock::steady().seconds() - start;
}

/// A checkpoint may be intact and still be what ends a run. The last one stays: without any, the run would start over.
void Supervisor::blame_checkpoint(const fs::path& loaded, Attempt& attempt) {
  if (loaded.empty() || ++failures_[loaded.string()] < kFailuresOfACheckpoint) return;
  CheckpointFolder checkpoints(paths_.checkpoints());
  if (checkpoints.list().size() < 2 || !checkpoints.set_aside(loaded)) return;
  failures_.clear();
  best_step_ = newest_step();   // from there on there is progress
  attempt.note = fmt::format("{} was set aside: {} attempts went on from it and failed", loaded.filename().string(), kFailuresOfACheckpoint);
}

void Supervisor::write(const Attempt& attempt) {
  json::object line{{"attempt", attempt.number}, {"started", attempt.started}, {"seconds", attempt.seconds}, {"ranks", attempt.ranks},
                    {"from_step", attempt.from_step}, {"to_step", attempt.to_step}, {"exit_code", attempt.exit_code},
                    {"end", describe_exit(attempt.exit_code)}, {"next", attempt.next}};
  if (!attempt.hosts.empty()) line["hosts"] = attempt.hosts;
  if (attempt.killed > 0) line["killed"] = attempt.killed;
  if (!attempt.note.empty()) line["note"] = attempt.note;
  unwritten_.push_back(json_line(line) + "\n");
  if (!fs::exists(paths_.config())) return;   // a folder with files and without a run would be refused
  std::ofstream out(account(), std::ios::app);
  for (const std::string& text : std::exchange(unwritten_, {})) out << text;
  if (!out.flush()) log::warn("{} cannot be written", account().string());
}

void Supervisor::say(const Attempt& attempt, double pause_seconds) const {
  std::string text = fmt::format("attempt {} ended after {:.1f} s at step {}: {}", attempt.number, attempt.seconds, attempt.to_step,
                                 describe_exit(attempt.exit_code));
  if (!attempt.note.empty()) text += "; " + attempt.note;
  if (attempt.next == "restart") {
    text += "; starting again" + (pause_seconds > 0 ? fmt::format(" in {:.0f} s", pause_seconds) : std::string());
    if (restarts_ > 0) text += fmt::format(" (restart {} of {} without progress)", restarts_, options_.max_restarts);
  } else if (attempt.next == "give up") {
    text += fmt::format("; giving up: {} restarts brought nothing new, see {}", options_.max_restarts, account().string());
  }
  log::warn("{}", text);
}

int Supervisor::run() {
  for (;; first_ = false) {
    Attempt attempt;
    attempt.number = ++number_;
    attempt.started = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
    const std::uintmax_t events_before = size_of_file(paths_.metrics());
    attempt.from_step = newest_step();
    const bool enough = find_hosts(attempt);
    attempt.ranks = ranks_;
    attempt.hosts = host_argument(hosts_);
    if (enough) {
      make(attempt);
    } else {
      attempt.exit_code = static_cast<int>(ExitCode::internal);
    }
    const Identity config = identity_of(paths_.config());
    begins_anew_ = begins_anew_ && (config == old_config_ || config == Identity());
    attempt.to_step = newest_step();

    const int code = attempt.exit_code;
    const bool done = code == static_cast<int>(ExitCode::done);
    if (asked_ || is_final(code, first_)) {
      attempt.next = done ? "done" : asked_ || code == static_cast<int>(ExitCode::run_again) ? "stopped" : "give up";
      write(attempt);
      if (now_) return 128 + SIGINT;
      if (!asked_ || done) return code;
      if (code != static_cast<int>(ExitCode::run_again)) {
        log::warn("stopped before all ranks could save ({}): the same command goes on at step {}", describe_exit(code), attempt.to_step);
      }
      return static_cast<int>(ExitCode::run_again);
    }

    const bool progress = attempt.to_step > best_step_;
    best_step_ = std::max(best_step_, attempt.to_step);
    restarts_ = progress ? 0 : restarts_ + 1;
    const bool again = options_.max_restarts > 0 && restarts_ <= options_.max_restarts;
    attempt.next = again ? "restart" : "give up";
    if (progress) failures_.clear();
    if (!progress && again) blame_checkpoint(loaded_since(paths_.metrics(), events_before), attempt);
    const double pause_seconds =
        progress ? 0 : std::min(options_.longest_pause_seconds, options_.first_pause_seconds * static_cast<double>(1 << std::min(restarts_ - 1, 20)));
    write(attempt);
    say(attempt, pause_seconds);
    if (attempt.next == "give up") return code;
    pause(pause_seconds);
    if (asked_) return static_cast<int>(ExitCode::run_again);
  }
}

}  // namespace

int supervise(const LaunchOptions& options) { return Supervisor(options).run(); }

}  // namespace tugline
