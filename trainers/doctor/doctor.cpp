// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/doctor/doctor.hpp"

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <boost/describe/class.hpp>
#include <boost/json.hpp>
#include <cstdlib>
#include <optional>
#include <ostream>

#include "tugline/core/cpu.hpp"
#include "tugline/core/device.hpp"
#include "tugline/parallel/nccl/device_map.hpp"
#include "tugline/core/error.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {

BOOST_DESCRIBE_STRUCT(RankFacts, (), (rank, host, cores, online_cores, cgroup_cores, load, shm_bytes, build, gpu, gpu_bus, sees_folder))

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

std::int64_t free_shared_memory() {
  struct statvfs space {};
  if (::statvfs("/dev/shm", &space) != 0) return -1;
  return static_cast<std::int64_t>(space.f_bavail) * static_cast<std::int64_t>(space.f_frsize);
}

std::string build_text() {
  std::string text = fmt::format("tugline {}", TUGLINE_VERSION);
  for (const auto& [name, version] : library_versions()) text += fmt::format(", {} {}", name, version);
  return text;
}

RankFacts gather_rank(const World& world, const std::string& token) {
  const CpuBudget budget = cpu_budget();
  RankFacts facts{.rank = world.rank(),
                  .host = world.hosts().at(static_cast<std::size_t>(world.rank())),
                  .cores = budget.cores,
                  .online_cores = budget.online_cores,
                  .cgroup_cores = budget.cgroup_cores,
                  .shm_bytes = free_shared_memory(),
                  .build = build_text()};
  double load = 0;
  if (::getloadavg(&load, 1) == 1) facts.load = load;
  const GpuDriver driver = gpu_driver();
  if (!driver.gpus.empty()) {
    facts.gpu = device_of(world.local_rank(), static_cast<int>(driver.gpus.size()));
    facts.gpu_bus = driver.gpus[static_cast<std::size_t>(facts.gpu)].pci_bus;
  }
  std::error_code ignored;
  facts.sees_folder = token.empty() || fs::exists(token, ignored);
  return facts;
}

/// Collective; all ranks get all facts.
std::vector<RankFacts> gather_ranks(World& world, const std::string& token) {
  std::vector<RankFacts> ranks;
  const std::string mine = json::serialize(json::value_from(gather_rank(world, token)));
  for (const std::string& one : world.control().all_gather(mine))
    ranks.push_back(json::value_to<RankFacts>(json::parse(one)));
  return ranks;
}

bool root_is_allowed() {
  return std::getenv("OMPI_ALLOW_RUN_AS_ROOT") != nullptr && std::getenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM") != nullptr;
}

}  // namespace

int run_doctor(World& world, const fs::path& folder, std::ostream& out, ReportFormat format) {
  std::optional<FileSystemProbe> probe;
  if (world.rank() == 0) probe.emplace(folder);
  const std::string token = world.control().broadcast(probe ? probe->token().string() : "", 0);
  const std::vector<RankFacts> ranks = gather_ranks(world, token);

  std::int64_t failed = 0;
  if (probe) {
    const DeviceFacts devices = device_facts();
    std::vector<Check> checks{check_mpi(world.description()),
                                    check_build(ranks),
                                    check_root(::geteuid() == 0, root_is_allowed()),
                                    check_binding(ranks),
                                    check_cpu_limit(ranks),
                                    check_load(ranks),
                                    check_shared_memory(ranks),
                                    check_torch(torch_facts()),
                                    check_devices(devices),
                                    check_device_map(ranks),
                                    check_device_links(devices),
                                    check_file_system(probe->facts()),
                                    check_shared_folder(ranks, probe->facts().folder),
                                    check_console(decide_console(gather_console_facts()))};
    std::erase_if(checks, [](const Check& check) { return check.detail.empty(); });   // nothing there to look at
    out << (format == ReportFormat::json ? report_json(checks) : report_text(checks)) << std::flush;
    failed = std::count_if(checks.begin(), checks.end(), [](const Check& check) { return check.status == Status::fail; });
  }
  failed = world.control().all_reduce(failed, ReduceOp::sum);
  return static_cast<int>(failed > 0 ? ExitCode::check_said_no : ExitCode::done);
}

}  // namespace tugline
