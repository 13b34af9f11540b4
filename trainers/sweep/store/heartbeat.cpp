// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/store/heartbeat.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "tugline/trainers/sweep/store/frame.hpp"

namespace tugline::sweep {

constexpr std::size_t kMostBytes = 4096;   // of a log; then it begins anew, as only the newest record says anything

void Heartbeat::beat() {
  const std::lock_guard lock(mutex_);
  const std::string record = frame(fmt::format("{}\n", ++counter_));
  if (fresh_ || size_ + record.size() > kMostBytes) {
    files_.make_folder(folder_);
    files_.remove(file_);   // who reads now sees no movement, as if a moment earlier
    size_ = 0;
  }
  fresh_ = true;   // should this throw
  files_.append(file_, record);
  fresh_ = false;
  size_ += record.size();
}

bool Heartbeat::has_begun() {
  const std::lock_guard lock(mutex_);
  return !fresh_;
}

bool Watch::is_silent(const std::string& worker, double since, double now) {
  auto at = seen_.find(worker);
  if (at == seen_.end()) at = seen_.emplace(worker, Seen{.counter = counter_of(worker), .moved = now, .looked = now}).first;
  Seen& seen = at->second;
  const auto silent = [&] { return now - std::max(seen.moved, since) >= lease_seconds_; };
  if (silent() || now - seen.looked >= lease_seconds_ / 4) {
    const std::uint64_t counter = counter_of(worker);
    if (counter > seen.counter) seen = {.counter = counter, .moved = now, .looked = now};
    seen.looked = now;
  }
  return silent();
}

/// 0 when nothing can be read: no sign of life, and none of death either.
std::uint64_t Watch::counter_of(const std::string& worker) {
  const auto log = files_.read(folder_ / worker);
  if (!log) return 0;
  const std::string_view payload = newest_frame(*log);
  std::uint64_t counter = 0;
  std::from_chars(payload.data(), payload.data() + payload.size(), counter);
  return counter;
}

}  // namespace tugline::sweep
