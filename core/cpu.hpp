// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace tugline {

/// What this process may use of its machine's processors.
struct CpuBudget {
  std::vector<int> cores;   ///< the ids it may run on (its affinity, ascending)
  int affinity_cores = 1;   ///< how many those are
  int online_cores = 1;     ///< what the machine has
  double cgroup_cores = 0;  ///< CPU quota of its control group (v1 or v2), in cores; 0: no limit
  int usable = 1;           ///< the smaller of the two, whole cores, at least 1
};

/// Reads /proc and /sys below `root`; what is missing there counts as no limit. Never throws.
CpuBudget cpu_budget(const std::filesystem::path& root = "/");

/// The processor's name ("AMD EPYC 7B13"), empty where the system does not say.
std::string cpu_model(const std::filesystem::path& root = "/");

/// "0-3,8" for {0, 1, 2, 3, 8}, and back; text that is no such list gives what was read before the fault.
std::string core_list(std::span<const int> cores);
std::vector<int> parse_core_list(const std::string& text);

/// Threads for this rank, at least 1: `local_cores` has the cores of every rank of this host (this one too), which may be bound to some of
/// their own. Cores are divided among the ranks that overlap with this one, the quota among all of the host.
int default_threads_per_rank(const CpuBudget& mine, std::span<const std::vector<int>> local_cores);

}  // namespace tugline
