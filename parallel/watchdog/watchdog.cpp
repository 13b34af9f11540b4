// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/watchdog/watchdog.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/error.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/watchdog/heartbeat.hpp"
#include "tugline/parallel/watchdog/thread_stack.hpp"

namespace tugline {
namespace {

constexpr int kAlarm = 1, kQuestion = 2, kAnswer = 3, kStack = 4;   // tags
constexpr double kPollSeconds = 0.1;
constexpr double kAnswerSeconds = 0.9;   // for a thread that does nothing but answer
constexpr double kStackSeconds = 3;      // names are looked up in LibTorch's symbols
constexpr double kReportSeconds = 10;    // for rank 0 to find out and end the job, once it has asked
constexpr double kQuietSeconds = 10;     // between complaints of a rank that waits

/// Where a rank says it stands: "<phase> <step> <seconds> <1: for too long>".
struct Standing {
  Phase phase = Phase::idle;
  std::int64_t step = 0;
  double seconds = 0;
  bool too_long = false;
};

std::string encode(const Standing& standing) {
  return fmt::format("{} {} {} {}", static_cast<int>(standing.phase), standing.step, standing.seconds, standing.too_long ? 1 : 0);
}

Standing decode(const std::string& text) {
  Standing standing;
  std::istringstream in(text);
  int phase = 0, too_long = 0;
  in >> phase >> standing.step >> standing.seconds >> too_long;
  standing.phase = static_cast<Phase>(phase);
  standing.too_long = too_long != 0;
  return standing;
}

std::string describe(int rank, const Standing& standing) {
  return fmt::format("rank {} has been {} in step {} for {:.1f} s", rank, name_of(standing.phase), standing.step, standing.seconds);
}

bool is_busy(const Standing& standing) { return standing.phase != Phase::waiting; }

/// One sentence; "" when nobody hangs: some rank is not late, and others wait for it. `standings`: of the ranks that answered.
std::string verdict(const std::map<int, Standing>& standings, int size) {
  for (int rank = 0; rank < size; ++rank) {
    if (standings.count(rank) == 0) return fmt::format("rank {} does not answer: it is stopped, or its host is gone", rank);
  }
  int guilty = -1;
  bool patience = false;
  for (const auto& [rank, standing] : standings) {
    patience = patience || !standing.too_long;
    if (is_busy(standing) && standing.too_long && (guilty < 0 || standing.seconds > standings.at(guilty).seconds)) guilty = rank;
  }
  if (guilty >= 0) return describe(guilty, standings.at(guilty)) + (size > 1 ? ", and the others wait for it" : "");
  if (patience) return "";
  const auto [behind, ahead] = std::minmax_element(standings.begin(), standings.end(),
                                                   [](const auto& a, const auto& b) { return a.second.step < b.second.step; });
  if (behind->second.step < ahead->second.step) {
    return fmt::format("rank {} is at step {} and rank {} at step {}, and they wait for each other", behind->first, behind->second.step,
                       ahead->first, ahead->second.step);
  }
  return "all ranks wait for each other in the same step: they call other collectives, or the network has lost something; parallel.debug "
         "names calls that differ";
}

std::string indented(const std::string& lines) {
  std::string text;
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line);) text += "      " + line + "\n";
  return text;
}

}  // namespace

struct Watchdog::Impl {
  std::unique_ptr<Communicator> channel;
  const Heartbeat& heartbeat;
  WatchdogOptions options;
  const pthread_t watched = pthread_self();
  double awake_since = 0;                              // the process has not stood still since, by the heartbeat's clock
  double questioned = -1e9, quiet_until = 0;           // by the steady clock
  std::mutex mutex{};
  std::condition_variable wake{};
  std::atomic<bool> stop{false};
  std::vector<std::unique_ptr<std::string>> texts{};   // of
  std::vector<std::unique_ptr<Work>> sends{};
  std::thread thread{};

  Impl(std::unique_ptr<Communicator> channel_in, const Heartbeat& heartbeat_in, WatchdogOptions options_in)
      : channel(std::move(channel_in)), heartbeat(heartbeat_in), options(std::move(options_in)) {}
  double limit(Phase phase) const;
  Standing standing() const;
  bool stands_still() const { return standing().too_long; }
  bool complains();
  void send(std::string text, int to, int tag);
  std::optional<std::string> receive(int from, int tag);
  bool answer_question();
  void collect(int tag, double seconds, std::map<int, std::string>& texts_of, int expected);
  void find_the_guilty();
  void ask_rank_zero();
  void poll();
  void run();
};

double Watchdog::Impl::limit(Phase phase) const {
  const bool patient = phase == Phase::evaluation || phase == Phase::checkpoint;
  if (options.seconds > 0) return phase == Phase::checkpoint ? std::max(options.seconds, options.patient_seconds) : options.seconds;
  const double longest = heartbeat.longest_step();
  const double usual = std::max(options.least_seconds, 20 * longest);
  return patient || longest == 0 ? std::max(usual, options.patient_seconds) : usual;
}

Standing Watchdog::Impl::standing() const {
  const Heartbeat::Now now = heartbeat.now();
  const double seconds = heartbeat.clock().seconds() - std::max(now.since, awake_since);
  return {now.phase, now.step, seconds, now.phase != Phase::idle && seconds > limit(now.phase)};
}

/// Stands still, and has something new to say: a rank that waits may wait for one that may take so long.
bool Watchdog::Impl::complains() {
  const Standing mine = standing();
  const double now = Clock::steady().seconds();
  if (!mine.too_long || (!is_busy(mine) && now < quiet_until)) return false;
  quiet_until = now + std::min(kQuietSeconds, limit(mine.phase));
  return true;
}

void Watchdog::Impl::send(std::string text, int to, int tag) {
  texts.push_back(std::make_unique<std::string>(std::move(text)));
  sends.push_back(channel->start_send(texts.back()->data(), static_cast<std::int64_t>(texts.back()->size()), to, tag));
}

std::optional<std::string> Watchdog::Impl::receive(int from, int tag) {
  const auto incoming = channel->probe(from, tag);
  if (!incoming) return std::nullopt;
  std::string text(static_cast<std::size_t>(incoming->bytes), ' ');
  channel->receive(text.data(), incoming->bytes, incoming->from, tag);
  return text;
}

/// First where this rank stands, at once; its stack may take a while.
bool Watchdog::Impl::answer_question() {
  if (channel->rank() == 0 || !receive(0, kQuestion)) return false;
  questioned = Clock::steady().seconds();
  send(encode(standing()), 0, kAnswer);
  send(stack_of(watched), 0, kStack);
  return true;
}

void Watchdog::Impl::collect(int tag, double seconds, std::map<int, std::string>& texts_of, int expected) {
  const double end = Clock::steady().seconds() + seconds;
  while (!stop && Clock::steady().seconds() < end && static_cast<int>(texts_of.size()) < expected) {
    for (int rank = 1; rank < channel->size(); ++rank) {
      if (auto text = receive(rank, tag)) texts_of[rank] = std::move(*text);
    }
    for (auto& work : sends) work->test();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

/// On rank 0: somebody stands still.
void Watchdog::Impl::find_the_guilty() {
  for (int rank = 1; rank < channel->size(); ++rank) send("?", rank, kQuestion);
  std::map<int, std::string> answers{{0, encode(standing())}}, stacks;
  collect(kAnswer, kAnswerSeconds, answers, channel->size());
  std::map<int, Standing> standings;
  for (const auto& [rank, text] : answers) standings[rank] = decode(text);
  if (stop) return;
  const std::string sentence = verdict(standings, channel->size());
  stacks[0] = sentence.empty() ? "" : stack_of(watched);
  collect(kStack, kStackSeconds, stacks, static_cast<int>(answers.size()));   // also when they are not needed: none may stay
  if (sentence.empty()) return;
  std::string report = "hang: " + sentence + "\n";
  for (const auto& [rank, standing] : standings) report += "  " + describe(rank, standing) + "\n" + indented(stacks[rank]);
  options.on_hang(report);
}

/// On another rank, which stands still: rank 0 finds out why, or does not answer.
void Watchdog::Impl::ask_rank_zero() {
  send("!", 0, kAlarm);
  const double asked = Clock::steady().seconds();
  for (double now = asked; now < std::max(asked + kAnswerSeconds, questioned + kReportSeconds); now = Clock::steady().seconds()) {
    const bool answered = answer_question();
    if (stop || !stands_still() || (answered && !is_busy(standing()))) return;   // the latter may wait for one that may take so long
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  options.on_hang(fmt::format("hang: rank 0 does not answer: it is stopped, or its host is gone\n  {}\n{}",
                              describe(channel->rank(), standing()), indented(stack_of(watched))));
}

void Watchdog::Impl::poll() {
  answer_question();
  if (channel->rank() != 0) {
    if (complains()) ask_rank_zero();
    return;
  }
  bool alarmed = complains();
  for (int rank = 1; rank < channel->size(); ++rank) alarmed = receive(rank, kAlarm).has_value() || alarmed;
  if (alarmed) find_the_guilty();
}

void Watchdog::Impl::run() {
  double last = Clock::steady().seconds();
  std::unique_lock<std::mutex> lock(mutex);
  while (!wake.wait_for(lock, std::chrono::duration<double>(kPollSeconds), [&] { return stop.load(); })) {
    lock.unlock();
    const double woke = Clock::steady().seconds();
    if (woke - last > 10 * kPollSeconds) awake_since = heartbeat.clock().seconds();
    try {
      poll();
    } catch (const CommError&) {
      return;   // the job is ending
    }
    last = Clock::steady().seconds();
    lock.lock();
  }
}

Watchdog::Watchdog(std::unique_ptr<Communicator> channel, const Heartbeat& heartbeat, WatchdogOptions options)
    : impl_(std::make_unique<Impl>(std::move(channel), heartbeat, std::move(options))) {
  impl_->thread = std::thread([this] { impl_->run(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard<std::mutex> lock(impl_->mutex);
    impl_->stop = true;
  }
  impl_->wake.notify_one();
  impl_->thread.join();
}

}  // namespace tugline
