// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/launch/hosts.hpp"

#include <charconv>
#include <chrono>
#include <memory>
#include <sstream>
#include <thread>

#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/error.hpp"
#include "tugline/trainers/launch/leftovers.hpp"
#include "tugline/trainers/launch/process_tree.hpp"

namespace tugline {

std::vector<HostSlots> parse_hosts(const std::string& text, int ranks) {
  std::vector<HostSlots> hosts;
  bool counted = false;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, ',');) {
    const auto colon = word.find(':');
    HostSlots host{word.substr(0, colon), 0};
    if (host.name.empty()) throw UsageError(fmt::format("--hosts {}: a name is missing; write name,name or name:ranks,name:ranks", text));
    if (colon != word.npos) {
      const char* const end = word.data() + word.size();
      const auto [rest, error] = std::from_chars(word.data() + colon + 1, end, host.slots);
      if (error != std::errc() || rest != end || host.slots < 1) {
        throw UsageError(fmt::format("--hosts: '{}' is not name:ranks with at least 1 rank", word));
      }
      counted = true;
    }
    hosts.push_back(std::move(host));
  }
  for (HostSlots& host : hosts) {
    if (host.slots > 0) continue;
    if (counted) throw UsageError(fmt::format("--hosts {}: give ranks for all hosts or for none", text));
    host.slots = (ranks + static_cast<int>(hosts.size()) - 1) / static_cast<int>(hosts.size());
  }
  if (!hosts.empty() && slots_of(hosts) < ranks) {
    throw UsageError(fmt::format("--hosts {} has room for {} ranks, and {} are asked for", text, slots_of(hosts), ranks));
  }
  return hosts;
}

std::string host_argument(const std::vector<HostSlots>& hosts) {
  std::string text;
  for (const HostSlots& host : hosts) text += fmt::format("{}{}:{}", text.empty() ? "" : ",", host.name, host.slots);
  return text;
}

int slots_of(const std::vector<HostSlots>& hosts) {
  int sum = 0;
  for (const HostSlots& host : hosts) sum += host.slots;
  return sum;
}

std::vector<HostSlots> reachable(const std::vector<HostSlots>& hosts, const std::vector<std::string>& mpirun, double timeout_seconds) {
  const SessionFolder session;
  std::vector<std::unique_ptr<ProcessTree>> probes;
  for (const HostSlots& host : hosts) {
    std::vector<std::string> command = mpirun;
    command.insert(command.end(), {"-n", "1", "--host", host.name + ":1", "true"});
    probes.push_back(std::make_unique<ProcessTree>(command, std::map<std::string, std::string>{{"TMPDIR", session.path().string()}}, "/dev/null"));
  }
  const double end = Clock::steady().seconds() + timeout_seconds;
  std::vector<HostSlots> answered;
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    while (!probes[i]->exit_code() && Clock::steady().seconds() < end) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (probes[i]->exit_code() == 0) answered.push_back(hosts[i]);
  }
  return answered;
}

}  // namespace tugline
