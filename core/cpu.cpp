// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/cpu.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>

namespace tugline {
namespace {

namespace fs = std::filesystem;

std::string read_text(const fs::path& file) {
  std::ifstream in(file);
  std::ostringstream text;
  if (in) text << in.rdbuf();
  return std::move(text).str();
}

/// Cores of "max 100000", "150000 100000" (v2), or of the two v1 files joined by a blank; 0: no limit.
double quota_cores(const std::string& text) {
  std::istringstream in(text);
  double quota = 0, period = 0;
  if (!(in >> quota >> period) || quota <= 0 || period <= 0) return 0;
  return quota / period;
}

double tighter(double a, double b) { return a > 0 && b > 0 ? std::min(a, b) : std::max(a, b); }

/// The tightest quota between the group and the top. Where a container hides the upper part, or shows the host's path, the
/// folders that are not there are skipped; the top always is.
template <class ReadQuota>
double tightest(const fs::path& mount, const std::string& group, ReadQuota quota_of) {
  double cores = quota_of(mount);
  fs::path folder = mount;
  for (const fs::path& part : fs::path(group).relative_path()) cores = tighter(cores, quota_of(folder /= part));
  return cores;
}

double cgroup_cores(const fs::path& root) {
  const auto v2 = [](const fs::path& folder) { return quota_cores(read_text(folder / "cpu.max")); };
  const auto v1 = [](const fs::path& folder) {
    return quota_cores(read_text(folder / "cpu.cfs_quota_us") + " " + read_text(folder / "cpu.cfs_period_us"));
  };
  double cores = 0;
  std::istringstream lines(read_text(root / "proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    if (controllers.empty()) {
      for (const char* mount : {"sys/fs/cgroup", "sys/fs/cgroup/unified"})
        cores = tighter(cores, tightest(root / mount, group, v2));
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      const fs::path mount = root / "sys/fs/cgroup" / controllers;
      cores = tighter(cores, tightest(fs::exists(mount) ? mount : root / "sys/fs/cgroup/cpu", group, v1));
    }
  }
  return cores;
}

std::vector<int> allowed_cores(const fs::path& root) {
  std::istringstream lines(read_text(root / "proc/self/status"));
  const std::string_view key = "Cpus_allowed_list:";
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(key)) return parse_core_list(line.substr(line.find_first_not_of(" \t", key.size())));
  }
  return {};
}

}  // namespace

CpuBudget cpu_budget(const fs::path& root) try {
  CpuBudget budget;
  budget.online_cores = static_cast<int>(parse_core_list(read_text(root / "sys/devices/system/cpu/online")).size());
  if (budget.online_cores == 0) budget.online_cores = std::max(1u, std::thread::hardware_concurrency());
  budget.cores = allowed_cores(root);
  budget.affinity_cores = budget.cores.empty() ? budget.online_cores : static_cast<int>(budget.cores.size());
  budget.cgroup_cores = cgroup_cores(root);
  budget.usable = budget.affinity_cores;
  // Rounded down: a throttled thread holds up all others of its rank.
  if (budget.cgroup_cores > 0) budget.usable = std::clamp(static_cast<int>(budget.cgroup_cores), 1, budget.affinity_cores);
  return budget;
} catch (const std::exception&) {
  return {};
}

std::string core_list(std::span<const int> cores) {
  std::string text;
  for (std::size_t i = 0; i < cores.size();) {
    std::size_t end = i + 1;
    while (end < cores.size() && cores[end] == cores[end - 1] + 1) ++end;
    if (!text.empty()) text += ',';
    text += end - i == 1 ? fmt::format("{}", cores[i]) : fmt::format("{}-{}", cores[i], cores[end - 1]);
    i = end;
  }
  return text;
}

std::vector<int> parse_core_list(const std::string& text) {
  std::vector<int> cores;
  constexpr int kMostCores = 65536;  // an absurd range must not fill the memory
  for (const char *at = text.data(), *end = at + text.size(); at < end;) {
    int first = 0;
    auto read = std::from_chars(at, end, first);
    if (read.ec != std::errc()) break;
    int last = first;
    if (read.ptr < end && *read.ptr == '-') {
      read = std::from_chars(read.ptr + 1, end, last);
      if (read.ec != std::errc()) break;
    }
    for (int core = first; core <= last && static_cast<int>(cores.size()) < kMostCores; ++core) cores.push_back(core);
    if (read.ptr == end || *read.ptr != ',') break;
    at = read.ptr + 1;
  }
  return cores;
}

std::string cpu_model(const std::filesystem::path& root) {
  std::ifstream in(root / "proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const auto colon = line.find(": ");
    if (colon != std::string::npos && line.starts_with("model name")) return line.substr(colon + 2);
  }
  return {};
}

int default_threads_per_rank(const CpuBudget& mine, std::span<const std::vector<int>> local_cores) {
  int overlapping = 0;
  for (const std::vector<int>& other : local_cores) {
    overlapping +=
        std::find_first_of(other.begin(), other.end(), mine.cores.begin(), mine.cores.end()) != other.end() ? 1 : 0;
  }
  int threads = mine.affinity_cores / std::max(1, overlapping);
  if (mine.cgroup_cores > 0) {
    threads = std::min(
        threads, static_cast<int>(mine.cgroup_cores / static_cast<double>(std::max<std::size_t>(1, local_cores.size()))));
  }
  return std::max(1, threads);
}

}  // namespace tugline
