// SPDX-License-Identifier: Apache-2.0
#include <boost/program_options.hpp>

#include <filesystem>
#include <ostream>

#include <fmt/format.h>

#include "tugline/core/atomic_file.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/error.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/apps/command.hpp"
#include "tugline/trainers/overfit/overfit.hpp"
#include "tugline/trainers/prepare.hpp"

namespace tugline {
namespace po = boost::program_options;

namespace {

/// Before minutes of training, not after.
void require_folder(const char* option, const po::variables_map& values) {
  if (values.count(option) == 0) return;
  const std::filesystem::path file = values[option].as<std::string>();
  const auto folder = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
  if (!std::filesystem::is_directory(folder)) {
    throw IoError(fmt::format("--{}: cannot write '{}': the folder '{}' does not exist", option, file.string(), folder.string()));
  }
  if (std::filesystem::is_directory(file) || !file.has_filename()) {
    throw IoError(fmt::format("--{}: '{}' is a folder; name a file", option, file.string()));
  }
}

}  // namespace

ExitCode overfit_command(const Invocation& invocation) {
  const Command& command = command_named("overfit");
  World& world = invocation.world;
  po::options_description options("Options");
  options.add_options()("help,h", "this text")("json", po::value<std::string>()->value_name("FILE"), "write the verdict as JSON")(
      "junit", po::value<std::string>()->value_name("FILE"), "write it as JUnit XML, for a CI system");
  if (wants_help(invocation)) {
    invocation.out << help_of(command, &options);
    return ExitCode::done;
  }
  po::variables_map values;
  Arguments arguments;
  agree(world.control(), [&] {
    arguments = parse_arguments(invocation, command, options, values, 1, 1);
    if (world.rank() != 0) return;
    require_folder("json", values);
    require_folder("junit", values);
  });
  const RunConfig config = load_agreed_config(world, arguments.words[0], arguments.overrides);
  set_compute_threads(world, config.parallel);
  const DataSplits data = open_agreed_data(world, config);
  const OverfitVerdict verdict = overfit(world, config, invocation.models, data.train);
  invocation.out << to_text(verdict);
  agree(world.control(), [&] {
    if (world.rank() != 0) return;
    if (values.count("json") > 0) write_file_atomically(values["json"].as<std::string>(), to_json(verdict) + "\n");
    if (values.count("junit") > 0) write_file_atomically(values["junit"].as<std::string>(), to_junit_xml(verdict));
  });
  return verdict.passed ? ExitCode::done : ExitCode::check_said_no;
}

}  // namespace tugline
