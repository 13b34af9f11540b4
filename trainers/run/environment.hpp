// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/fwd.hpp>

#include <map>
#include <string>
#include <vector>

namespace tugline {

class World;

/// What only the caller knows about a run's environment.
struct ProgramFacts {
  std::vector<std::string> command_line;
  std::map<std::string, std::string> versions;  ///< of libraries, by name; Tugline's, Boost's and MPI's are added
};

/// Collective. Ranks, hosts, cores of each rank, versions, command line, folder, git commit, start time: the content of a
/// run's environment.json, on every rank.
boost::json::object gather_environment(World& world, const ProgramFacts& program);

/// The cores that each rank may use, from such an object: "cores 0 | 1 of alpha, 0-3 | 0-3 of beta", a control group's quota beside them.
std::string describe_cores(const boost::json::object& environment);

}  // namespace tugline
