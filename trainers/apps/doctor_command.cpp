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
  options.add_options()("help,h", "this text")("json", "one JSON document")(
      "ranks", "only this: how fast is each rank? takes 5 seconds");
  if (wants_help(invocation)) {
    invocation.out << help_of(command, &options);
    return ExitCode::done;
  }
  po::variables_map values;
  Arguments arguments;
  agree(invocation.world.control(), [&] {
    arguments = parse_arguments(invocation, command, options, values, 0, 1);
    if (values.count("ranks") > 0 && !arguments.words.empty())
      throw UsageError("--ranks looks at no folder; usage: tugline " + std::string(command.usage));
  });
  const ReportFormat format = values.count("json") > 0 ? ReportFormat::json : ReportFormat::text;
  if (values.count("ranks") > 0) return static_cast<ExitCode>(run_speed_doctor(invocation.world, invocation.out, format));
  const std::string folder = arguments.words.empty() ? "runs" : arguments.words[0];
  return static_cast<ExitCode>(run_doctor(invocation.world, folder, invocation.out, format));
}

}  // namespace tugline
