// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/watchdog/watchdog.hpp"

#include <pthread.h>

#include <algorithm>
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

constexpr int kAlarm = 1, kQuestion = 2, kAnswer = 3;   // tags
constexpr double kPollSeconds = 0.1;
constexpr double kAnswerSeconds = 0.7;                  // for all others to say where they stand
constexpr double kRankZeroSeconds = 2;                  // for rank 0 to act on an alarm

/// Where a rank says it stands: "<phase> <step> <seconds>", and its stack in the lines after.
struct Standing {
  Phase phase = Phase::idle;
  std::int64_t step = 0;
  double seconds = 0;
  std::string stack;
};

std::string encode(const Standing& standing) {
  return fmt::format("{} {} {}\n{}", static_cast<int>(standing.phase), standing.step, standing.seconds, standing.stack);
}

Standing decode(const std::string& text) {
  Standing standing;
  std::istringstream in(text);
  int phase = 0;
  in >> phase >> standing.step >> standing.seconds;
  in.ignore();
  standing.phase = static_cast<Phase>(phase);
  standing.stack.assign(std::istreambuf_iterator<char>(in), {});
  return standing;
}

std::string describe(int rank, const Standing& standing) {
  return fmt::format("rank {} has been {} in step {} for {:.1f} s", rank, name_of(standing.phase), standing.step, standing.seconds);
}

/// One sentence. `standings`: of the ranks that answered.
std::string verdict(const std::map<int, Standing>& standings, int size) {
  for (int rank = 0; rank < size; ++rank) {
    if (standings.count(rank) == 0) return fmt::format("rank {} does not answer: it is stopped, or its host is gone", rank);
  }
  const auto busy = [](const auto& entry) { return entry.second.phase != Phase::exchange; };
  const auto longest = std::max_element(standings.begin(), standings.end(), [&](const auto& a, const auto& b) {
    return std::pair(busy(a), a.second.seconds) < std::pair(busy(b), b.second.seconds);
  });
  if (size == 1 || busy(*longest)) return describe(longest->first, longest->second) + (size > 1 ? ", and the others wait for it" : "");
  const auto [behind, ahead] = std::minmax_element(standings.begin(), standings.end(),
                                                   [](const auto& a, const auto& b) { return a.second.step < b.second.step; });
  if (behind->second.step < ahead->second.step) {
    return fmt::format("rank {} is at step {} and rank {} at step {}, and they wait for each other", behind->first, behind->second.step,
                       ahead->first, ahead->second.step);
  }
  return "all ranks wait for each other in the same step: they call other collectives, or the network has lost something; parallel.debug "
         "names calls that differ";
}

}  // namespace

struct Watchdog::Impl {
  std::unique_ptr<Communicator> channel;
  const Heartbeat& heartbeat;
  WatchdogOptions options;
  const pthread_t watched = pthread_self();
  double awake_since = 0;          // the process has not stood still since
  std::mutex mutex{};
  std::condition_variable wake{};
  bool stop = false;
  std::vector<std::unique_ptr<std::string>> texts{};   // of
  std::vector<std::unique_ptr<Work>> sends{};
  std::thread thread{};

  Impl(std::unique_ptr<Communicator> channel_in, const Heartbeat& heartbeat_in, WatchdogOptions options_in)
      : channel(std::move(channel_in)), heartbeat(heartbeat_in), options(std::move(options_in)) {}
  double now() const { return Clock::steady().seconds(); }
  double limit(Phase phase) const;
  bool stuck() const;
  Standing standing() const;
  void send(const std::string& text, int to, int tag);
  std::optional<std::string> receive(int from, int tag);
  void answer_questions();
  std::map<int, Standing> ask_all();
  void raise();
  void alarm();
  void poll();
  void run();
};

double Watchdog::Impl::limit(Phase phase) const {
  if (options.seconds > 0) return options.seconds;
  const double longest = heartbeat.longest(phase);
  return longest > 0 ? std::max(options.least_seconds, 20 * longest) : options.first_seconds;
}

bool Watchdog::Impl::stuck() const {
  const Phase phase = heartbeat.phase();
  if (phase == Phase::idle) return false;
  return heartbeat.clock().seconds() - heartbeat.since() > limit(phase) && now() - awake_since > std::min(limit(phase), 10.0);
}

Standing Watchdog::Impl::standing() const {
  return {heartbeat.phase(), heartbeat.step(), heartbeat.clock().seconds() - heartbeat.since(), stack_of(watched)};
}

void Watchdog::Impl::send(const std::string& text, int to, int tag) {
  texts.push_back(std::make_unique<std::string>(text));
  sends.push_back(channel->start_send(texts.back()->data(), static_cast<std::int64_t>(text.size()), to, tag));
}

std::optional<std::string> Watchdog::Impl::receive(int from, int tag) {
  const auto incoming = channel->probe(from, tag);
  if (!incoming) return std::nullopt;
  std::string text(static_cast<std::size_t>(incoming->bytes), ' ');
  channel->receive(text.data(), incoming->bytes, incoming->from, tag);
  return text;
}

void Watchdog::Impl::answer_questions() {
  if (channel->rank() != 0 && receive(0, kQuestion)) send(encode(standing()), 0, kAnswer);
}

std::map<int, Standing> Watchdog::Impl::ask_all() {
  std::map<int, Standing> standings;
  for (int rank = 1; rank < channel->size(); ++rank) send("?", rank, kQuestion);
  standings[0] = standing();
  const double end = now() + kAnswerSeconds;
  while (now() < end && static_cast<int>(standings.size()) < channel->size()) {
    for (int rank = 1; rank < channel->size(); ++rank) {
      if (const auto text = receive(rank, kAnswer)) standings[rank] = decode(*text);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return standings;
}

/// On rank 0: somebody does not move.
void Watchdog::Impl::raise() {
  const auto standings = ask_all();
  std::string report = "hang: " + verdict(standings, channel->size()) + "\n";
  for (const auto& [rank, standing] : standings) {
    report += "  " + describe(rank, standing) + "\n";
    std::istringstream lines(standing.stack);
    for (std::string line; std::getline(lines, line);) report += "      " + line + "\n";
  }
  options.on_hang(report);
}

/// On another rank: this one does not move, and rank 0 finds out why.
void Watchdog::Impl::alarm() {
  send("!", 0, kAlarm);
  const double end = now() + kRankZeroSeconds;
  while (now() < end) {
    answer_questions();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  if (!stuck()) return;
  const Standing mine = standing();
  options.on_hang(fmt::format("hang: rank 0 does not answer: it is stopped, or its host is gone\n  {}\n{}", describe(channel->rank(), mine),
                              mine.stack));
}

void Watchdog::Impl::poll() {
  answer_questions();
  if (channel->rank() != 0) {
    if (stuck()) alarm();
    return;
  }
  bool alarmed = stuck();
  for (int rank = 1; rank < channel->size(); ++rank) alarmed = receive(rank, kAlarm).has_value() || alarmed;
  if (alarmed) raise();
}

void Watchdog::Impl::run() {
  double last = now();
  awake_since = last - 1e9;
  std::unique_lock<std::mutex> lock(mutex);
  while (!wake.wait_for(lock, std::chrono::duration<double>(kPollSeconds), [&] { return stop; })) {
    const double woke = now();
    if (woke - last > 10 * kPollSeconds + 1) awake_since = woke;
    last = woke;
    lock.unlock();
    try {
      poll();
    } catch (const CommError&) {
      return;   // the job is ending
    }
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
