// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run/environment.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <boost/json.hpp>
#include <boost/version.hpp>
#include <ctime>
#include <filesystem>

#include "tugline/core/cpu.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/run/git_commit.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

json::value versions_of(const World& world, const ProgramFacts& program) {
  json::object versions{{"tugline", TUGLINE_VERSION}, {"mpi", world.description()}};
  versions["boost"] = fmt::format("{}.{}.{}", BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000, BOOST_VERSION % 100);
  for (const auto& [name, version] : program.versions) versions[name] = version;
  return versions;
}

}  // namespace

json::object gather_environment(World& world, const ProgramFacts& program) {
  const CpuBudget budget = cpu_budget();
  const std::string mine = json::serialize(json::object{{"host", world.hosts().at(static_cast<std::size_t>(world.rank()))},
                                                        {"cores", core_list(budget.cores)},
                                                        {"online_cores", budget.online_cores},
                                                        {"cgroup_cores", budget.cgroup_cores}});
  json::array ranks;
  for (const std::string& one : world.control().all_gather(mine)) ranks.push_back(json::parse(one));
  const fs::path here = fs::current_path();
  return {{"started", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))},
          {"command_line", json::array(program.command_line.begin(), program.command_line.end())},
          {"folder", here.string()},
          {"git_commit", git_commit(here)},
          {"versions", versions_of(world, program)},
          {"ranks", world.size()},
          {"bindings", std::move(ranks)}};
}

std::string describe_cores(const json::object& environment) {
  std::string text = "cores";
  std::string_view host;
  for (const json::value& rank : environment.at("bindings").as_array()) {
    const std::string_view here = rank.at("host").as_string();
    if (!host.empty()) text += here == host ? " |" : fmt::format(" of {},", host);
    host = here;
    text += fmt::format(" {}", std::string_view(rank.at("cores").as_string()));
    const double quota = rank.at("cgroup_cores").to_number<double>();
    if (quota > 0) text += fmt::format(" ({:.2g} by quota)", quota);
  }
  return text + fmt::format(" of {}", host);
}

}  // namespace tugline
