// SPDX-License-Identifier: Apache-2.0
#include <boost/program_options.hpp>

#include <cmath>
#include <ostream>

#include <fmt/format.h>

#include "tugline/core/data/dataset.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/apps/command.hpp"
#include "tugline/trainers/prepare.hpp"
#include "tugline/trainers/verify/verify.hpp"

namespace tugline {
namespace po = boost::program_options;

ExitCode verify_command(const Invocation& invocation) {
  const Command& command = command_named("verify");
  World& world = invocation.world;
  po::options_description options("Options");
  options.add_options()("help,h", "this text")("tolerance", po::value<double>()->value_name("X"),
                                               "largest difference / largest gradient (default 1e-5; 1e-12 in float64)");
  if (wants_help(invocation)) {
    invocation.out << help_of(command, &options);
    return ExitCode::done;
  }
  po::variables_map values;
  Arguments arguments;
  std::optional<double> tolerance;
  agree(world.control(), [&] {
    arguments = parse_arguments(invocation, command, options, values, 1, 1);
    if (values.count("tolerance") == 0) return;
    tolerance = values["tolerance"].as<double>();
    if (!(*tolerance >= 0) || !std::isfinite(*tolerance)) {
      throw UsageError(fmt::format("--tolerance: {} is not a number of 0 or more", *tolerance));
    }
  });
  const RunConfig config = load_agreed_config(world, arguments.words[0], arguments.overrides);
  set_compute_threads(world, config.parallel);
  const DataSplits data = open_agreed_data(world, config);
  const VerifyReport report = verify(world, {config, invocation.models, data.train, nullptr}, tolerance);
  invocation.out << to_text(report);
  return report.passed ? ExitCode::done : ExitCode::check_said_no;
}

}  // namespace tugline
