// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/doctor/checks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "tugline/core/cpu.hpp"
#include "tugline/core/device.hpp"

namespace tugline {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;

std::string bytes_text(std::int64_t bytes) {
  return bytes >= 1024 * kMiB ? fmt::format("{:.1f} GiB", static_cast<double>(bytes) / static_cast<double>(1024 * kMiB))
                              : fmt::format("{} MiB", bytes / kMiB);
}

std::string count(std::size_t number, const std::string& noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

void join(std::string& all, const std::string& part, const char* between = "; ") {
  if (!all.empty()) all += between;
  all += part;
}

using Host = std::vector<const RankFacts*>;

std::map<std::string, Host> by_host(const std::vector<RankFacts>& ranks) {
  std::map<std::string, Host> hosts;
  for (const RankFacts& rank : ranks) hosts[rank.host].push_back(&rank);
  return hosts;
}

/// "rank 0: <text>; ranks 1-3: <text>": ranks that have the same text share a mention.
template <class TextOf>
std::string per_rank(const std::vector<RankFacts>& ranks, TextOf text_of) {
  std::vector<std::pair<std::string, std::vector<int>>> groups;
  for (const RankFacts& rank : ranks) {
    const std::string text = text_of(rank);
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const auto& group) { return group.first == text; });
    same == groups.end() ? groups.push_back({text, {rank.rank}}) : same->second.push_back(rank.rank);
  }
  std::string all;
  for (const auto& [text, members] : groups) {
    join(all, fmt::format("{} {}: {}", members.size() == 1 ? "rank" : "ranks", core_list(members), text));
  }
  return all;
}

/// "<text>" for one host, "a: <text>; b: <text>" for several.
template <class TextOf>
std::string per_host(const std::map<std::string, Host>& hosts, TextOf text_of) {
  if (hosts.size() == 1) return text_of(hosts.begin()->second);
  std::string all;
  for (const auto& [name, host] : hosts) join(all, name + ": " + text_of(host));
  return all;
}

/// Cores that the ranks of a host could have: what the machine has, less a quota.
int reachable_cores(const RankFacts& rank) {
  return rank.cgroup_cores > 0 ? std::clamp(static_cast<int>(rank.cgroup_cores), 1, rank.online_cores) : rank.online_cores;
}

/// What is wrong with how the ranks of one host are bound, as advice; empty: nothing.
std::string binding_advice(const Host& host) {
  const int ranks = static_cast<int>(host.size()), reachable = reachable_cores(*host.front());
  std::set<int> bound;
  for (const RankFacts* rank : host) bound.insert(rank->cores.begin(), rank->cores.end());
  if (ranks > reachable) {
    return fmt::format(
        "{} ranks share {}: start fewer ranks, or expect each to be slower (mpirun --oversubscribe --bind-to none)", ranks,
        count(static_cast<std::size_t>(reachable), "core"));
  }
  if (static_cast<int>(bound.size()) < ranks) {
    return fmt::format("{} ranks are tied to {} while others idle: add --bind-to none to mpirun", ranks,
                       count(bound.size(), "core"));
  }
  for (const RankFacts* rank : host) {
    if (rank->cores.size() == 1 && reachable > ranks) {
      return fmt::format(
          "rank {} is tied to one core of {}, so its threads take turns: add --bind-to none to mpirun, or "
          "--map-by slot:PE={}",
          rank->rank, rank->online_cores, reachable / ranks);
    }
  }
  return "";
}

}  // namespace

Check check_mpi(const std::string& world_description) {
  Check check{"mpi", Status::ok, world_description};
  for (const char* level : {"thread level single", "thread level funneled"}) {
    if (world_description.find(level) == std::string::npos) continue;
    check.status = Status::fail;
    check.advice = "this MPI was built without threads: use one that gives MPI_THREAD_SERIALIZED";
  }
  return check;
}

Check check_build(const std::vector<RankFacts>& ranks) {
  const bool same =
      std::all_of(ranks.begin(), ranks.end(), [&](const RankFacts& rank) { return rank.build == ranks.front().build; });
  if (same) return {"build", Status::ok, ranks.front().build};
  return {"build", Status::fail, per_rank(ranks, [](const RankFacts& rank) { return rank.build; }),
          "install the same build on every host"};
}

Check check_root(bool is_root, bool allowed) {
  if (!is_root) return {"user", Status::ok, "not root"};
  if (allowed) return {"user", Status::ok, "root, and Open MPI is told that this is meant"};
  return {"user", Status::warn, "root, whom Open MPI's mpirun refuses",
          "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1, or run as another user"};
}

Check check_binding(const std::vector<RankFacts>& ranks) {
  Check check{"binding", Status::ok,
              per_rank(ranks, [](const RankFacts& rank) { return "cores " + core_list(rank.cores); })};
  for (const auto& [name, host] : by_host(ranks)) {
    const std::string advice = binding_advice(host);
    if (advice.empty()) continue;
    check.status = Status::warn;
    check.advice = advice;
    break;  // hosts of a job are mostly alike: one sentence is enough
  }
  return check;
}

Check check_cpu_limit(const std::vector<RankFacts>& ranks) {
  const auto hosts = by_host(ranks);
  Check check{"cpu limit", Status::ok, per_host(hosts, [](const Host& host) {
                const double cores = host.front()->cgroup_cores;
                return cores > 0 ? fmt::format("control group allows {:.3g} cores", cores) : std::string("none");
              })};
  for (const auto& [name, host] : hosts) {
    const double cores = host.front()->cgroup_cores;
    if (cores <= 0 || cores >= static_cast<double>(host.size())) continue;
    check.status = Status::warn;
    check.advice = fmt::format(
        "{} on {} get {:.3g} cores together and will be stopped now and then: start fewer ranks, or raise the "
        "container's CPU limit",
        count(host.size(), "rank"), name, cores);
    break;
  }
  return check;
}

Check check_load(const std::vector<RankFacts>& ranks) {
  const auto hosts = by_host(ranks);
  Check check{"load", Status::ok, per_host(hosts, [](const Host& host) {
                return fmt::format("{:.2f} on {}", host.front()->load,
                                   count(static_cast<std::size_t>(host.front()->online_cores), "core"));
              })};
  for (const auto& [name, host] : hosts) {
    if (host.front()->load <= 0.5 * host.front()->online_cores) continue;
    check.status = Status::warn;
    check.advice =
        fmt::format("something else runs on {}: training will be slower there, and all ranks wait for the slowest", name);
    break;
  }
  return check;
}

Check check_shared_memory(const std::vector<RankFacts>& ranks) {
  constexpr std::int64_t kEnough = 256 * kMiB;
  const auto hosts = by_host(ranks);
  Check check{"/dev/shm", Status::ok, per_host(hosts, [](const Host& host) {
                const std::int64_t bytes = host.front()->shm_bytes;
                return bytes < 0 ? std::string("not there") : bytes_text(bytes) + " free";
              })};
  for (const auto& [name, host] : hosts) {
    if (host.front()->shm_bytes >= kEnough) continue;
    check.status = Status::warn;
    check.advice = fmt::format(
        "ranks on {} exchange data there, and a full one kills them with SIGBUS: start the container with "
        "--shm-size=1g, or mount a larger tmpfs",
        name);
    break;
  }
  return check;
}

Check check_torch(const TorchFacts& torch) {
  Check check{"libtorch", Status::ok,
              fmt::format("{}, BLAS {}, {}", torch.version, torch.blas.empty() ? "none" : torch.blas, torch.instructions)};
  if (torch.blas.empty()) {
    check.status = Status::warn;
    check.advice = "matrix products are slow without a BLAS: use the LibTorch that scripts/setup.sh installs";
  }
  return check;
}

namespace {

/// "2 x NVIDIA H200 (139.8 GiB), NVIDIA T4 (15.0 GiB)", in CUDA's order; or none, and why.
std::string gpus_text(const GpuDriver& driver) {
  if (!driver.present) return "none (no driver)";
  if (driver.gpus.empty()) return fmt::format("none (the driver says: {})", driver.trouble);
  std::string all;
  for (std::size_t first = 0, next = 0; first < driver.gpus.size(); first = next) {
    const Gpu& gpu = driver.gpus[first];
    while (next < driver.gpus.size() && driver.gpus[next].name == gpu.name) ++next;
    const std::string times = next - first == 1 ? "" : fmt::format("{} x ", next - first);
    join(all, fmt::format("{}{} ({})", times, gpu.name, bytes_text(gpu.memory_bytes)), ", ");
  }
  return fmt::format("{}, driver for CUDA {}", all, cuda_version_text(driver.cuda_version));
}

}  // namespace

Check check_devices(const DeviceFacts& devices) {
  const bool cpu_only = devices.built_for == 0;
  Check check{"devices", Status::ok,
              fmt::format("{}; this build is for {}", gpus_text(devices.driver),
                          cpu_only ? "CPUs only" : "CPUs and CUDA " + cuda_version_text(devices.built_for))};
  if (devices.nccl > 0) check.detail += fmt::format(", NCCL {}.{}.{}", devices.nccl / 10000, devices.nccl / 100 % 100, devices.nccl % 100);
  if (devices.driver.gpus.empty() || devices.usable > 0) return check;
  check.status = Status::warn;
  check.advice = why_no_device(devices) + (cpu_only ? "; nothing is wrong if CPUs are meant" : "");
  return check;
}

/// Which rank computes where; no detail where no rank sees a GPU.
Check check_device_map(const std::vector<RankFacts>& ranks) {
  Check check{"device map", Status::ok, "", ""};
  if (std::all_of(ranks.begin(), ranks.end(), [](const RankFacts& rank) { return rank.gpu < 0; })) return check;
  std::map<std::pair<std::string, std::string>, const RankFacts*> users;   // by host and place
  for (const RankFacts& rank : ranks) {
    if (rank.gpu < 0) {
      join(check.detail, fmt::format("rank {} on {} none", rank.rank, rank.host), ", ");
      check.status = Status::warn;
      join(check.advice, fmt::format("rank {} on {} sees no GPU, and train.device: cuda needs one for each rank", rank.rank, rank.host));
      continue;
    }
    join(check.detail, fmt::format("rank {} on {} cuda:{}{}", rank.rank, rank.host, rank.gpu, rank.gpu_bus.empty() ? "" : " (" + rank.gpu_bus + ")"), ", ");
    if (rank.gpu_bus.empty()) continue;
    const auto [first, alone] = users.emplace(std::pair(rank.host, rank.gpu_bus), &rank);
    if (alone) continue;
    check.status = Status::warn;
    join(check.advice, fmt::format("ranks {} and {} would share one GPU of {}, which NCCL refuses: start as many ranks per host as it has GPUs",
                                   first->second->rank, rank.rank, rank.host));
  }
  return check;
}

/// How the GPUs of rank 0's host reach each other; no detail where there are not several.
Check check_device_links(const DeviceFacts& devices) {
  Check check{"device links", Status::ok, "", ""};
  std::map<PeerLink, std::string> pairs;
  std::size_t all = 0;
  const auto& links = devices.driver.links;
  for (std::size_t i = 0; i < links.size(); ++i) {
    for (std::size_t j = i + 1; j < links.size(); ++j, ++all) join(pairs[std::min(links[i][j], links[j][i])], fmt::format("{}-{}", i, j), ",");
  }
  for (const auto& [link, names] : pairs) {
    const char* const name = link == PeerLink::nvlink ? "NVLink" : link == PeerLink::pcie ? "PCIe" : "no peer access";
    join(check.detail, pairs.size() == 1 && all > 1 ? fmt::format("{} between all {}", name, links.size()) : fmt::format("{} {}", name, names), ", ");
  }
  if (pairs.count(PeerLink::none) == 0) return check;
  check.status = Status::warn;
  check.advice = "GPUs without peer access exchange gradients through the host's memory: virtual machines and IOMMUs switch it off";
  return check;
}

Check check_file_system(const FileSystemFacts& facts) {
  constexpr std::int64_t kLittle = 1024 * kMiB;
  Check check{"run folder", Status::ok, fmt::format("{}: {} free", facts.folder, bytes_text(facts.free_bytes))};
  const auto judge = [&](const std::string& trouble, const char* what, Status status, const char* advice) {
    if (trouble.empty()) return;
    join(check.detail, fmt::format("{}: {}", what, trouble), ", ");
    check.status = std::max(check.status, status);
    join(check.advice, advice);
  };
  if (!facts.write.empty()) {
    judge(facts.write, "cannot write", Status::fail, "give a --run-dir that this user may write to and that has space");
    return check;
  }
  judge(facts.rename, "rename", Status::fail, "checkpoints need a file system that can rename: give another --run-dir");
  judge(facts.sync, "fsync", Status::warn, "a power cut may lose the newest checkpoint");
  judge(facts.lock, "flock", Status::warn, "two jobs could write one run unnoticed: give each its own --run-dir");
  judge(facts.link, "link", Status::warn, "sweeps need hard links: keep their folder on another file system");
  if (check.status == Status::ok) join(check.detail, "fsync, rename, flock and link work", ", ");
  if (facts.free_bytes < kLittle) {
    check.status = std::max(check.status, Status::warn);
    join(check.advice, "checkpoints may not fit: free some space");
  }
  return check;
}

Check check_shared_folder(const std::vector<RankFacts>& ranks, const std::string& folder) {
  Check check{"same folder", Status::ok, "every rank sees the run folder"};
  std::vector<int> blind;
  for (const RankFacts& rank : ranks) {
    if (!rank.sees_folder) blind.push_back(rank.rank);
  }
  if (blind.empty()) return check;
  check.status = Status::warn;
  check.detail = fmt::format("{} {} cannot see what rank 0 wrote to {}", blind.size() == 1 ? "rank" : "ranks",
                             core_list(blind), folder);
  check.advice = "put the run on a file system that all hosts share; without one, only rank 0's host has checkpoints";
  return check;
}

Check check_console(const ConsoleDecision& decision) {
  return {"progress", Status::ok,
          fmt::format("{}: {}", decision.mode == ConsoleMode::live ? "live line" : "plain lines", decision.reason)};
}

}  // namespace tugline
