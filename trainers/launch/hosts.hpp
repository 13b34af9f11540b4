// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace tugline {

/// A host of a launch, and how many ranks it takes.
struct HostSlots {
  std::string name;
  int slots = 0;
};

/// "a:4,b:4" or "a,b"; without numbers `ranks` are spread evenly. Throws UsageError that names the word.
std::vector<HostSlots> parse_hosts(const std::string& text, int ranks);
/// The form that mpirun takes: "a:4,b:4".
std::string host_argument(const std::vector<HostSlots>& hosts);
int slots_of(const std::vector<HostSlots>& hosts);

/// Those on which mpirun can start a process now: `mpirun` are its words, options included. All are asked at once, `timeout_seconds` for
/// each; the order stays.
std::vector<HostSlots> reachable(const std::vector<HostSlots>& hosts, const std::vector<std::string>& mpirun, double timeout_seconds = 20);

}  // namespace tugline
