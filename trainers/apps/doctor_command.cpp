// SPDX-License-Identifier: Apache-2.0
#include <boost/program_options.hpp>

#include <ostream>

#include "tugline/parallel/world.hpp"
#include "tugline/trainers/apps/command.hpp"
#include "tugline/trainers/doctor/doctor.hpp"

namespace tugline {
namespace po = boost::program_options;

ExitCode doctor_command(const Invocation& invocation) {
  const Command& command = command_named("doctor");
  po::options_description options("Options");
  options.add_options()("help,h", "this text")("json", "one JSON document");
  if (wants_help(invocation)) {
    invocation.out << help_of(command, &options);
    return ExitCode::done;
  }
  po::variables_map values;
  Arguments arguments;
  agree(invocation.world.control(), [&] { arguments = parse_arguments(invocation, command, options, values, 0, 1); });
  const std::string folder = arguments.words.empty() ? "runs" : arguments.words[0];
  return static_cast<ExitCode>(
      run_doctor(invocation.world, folder, invocation.out, values.count("json") > 0 ? ReportFormat::json : ReportFormat::text));
}

}  // namespace tugline
