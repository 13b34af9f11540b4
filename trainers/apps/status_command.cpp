// SPDX-License-Identifier: Apache-2.0
#include <boost/program_options.hpp>

#include <ostream>

#include "tugline/core/metrics/event_log.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/apps/command.hpp"
#include "tugline/trainers/run/run_status.hpp"

namespace tugline {
namespace po = boost::program_options;

ExitCode status_command(const Invocation& invocation) {
  const Command& command = command_named("status");
  po::options_description options("Options");
  options.add_options()("help,h", "this text");
  if (wants_help(invocation)) {
    invocation.out << help_of(command, &options);
    return ExitCode::done;
  }
  agree(invocation.world.control(), [&] {
    po::variables_map values;
    const Arguments arguments = parse_arguments(invocation, command, options, values, 1, 1);
    invocation.out << run_status(arguments.words[0], unix_seconds());
  });
  return ExitCode::done;
}

}  // namespace tugline
