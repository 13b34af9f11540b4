// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/error.hpp"

namespace boost::program_options {
class options_description;
class variables_map;
}  // namespace boost::program_options

namespace tugline {

class ModelRegistry;
class World;

/// What a command gets. `out` swallows everything on ranks other than 0.
struct Invocation {
  World& world;
  const ModelRegistry& models;
  const std::vector<std::string>& arguments;   ///< after the command's name
  const std::vector<std::string>& command_line;
  std::ostream& out;
};

struct Command {
  const char* name;
  const char* summary;    ///< one line of `tugline --help`
  const char* usage;      ///< "train CONFIG [key=value ...]"
  const char* example;
  ExitCode (*run)(const Invocation&);
};

const std::vector<Command>& commands();

/// Positional arguments and options of one command.
struct Arguments {
  std::vector<std::string> words;        ///< positional, without overrides
  std::vector<std::string> overrides;    ///< those of the form key=value
};
/// Splits the invocation's arguments; options land in `values`. Throws UsageError with the command's usage when an option is
/// unknown or the number of words is not within [min_words, max_words].
Arguments parse_arguments(const Invocation& invocation, const Command& command,
                          const boost::program_options::options_description& options,
                          boost::program_options::variables_map& values, std::size_t min_words, std::size_t max_words);
/// --help or -h stands among the arguments.
bool wants_help(const Invocation& invocation);
const Command& command_named(const std::string& name);
/// Where a run, given by its folder or by its checkpoints' folder, keeps its checkpoints.
std::filesystem::path folder_of_checkpoints(const std::filesystem::path& run);
/// The help of one command: usage, options, example; fits a screen.
std::string help_of(const Command& command, const boost::program_options::options_description* options);

/// Collective. Every rank reads `file`, and adopts it.
RunConfig load_agreed_config(World& world, const std::string& file, const std::vector<std::string>& overrides);
/// Collective. The same for a config that came out of a checkpoint: all ranks must have it, and the world must be what it expects. Turns
/// parallel.debug on.
void adopt_config(World& world, const RunConfig& config);

ExitCode train_command(const Invocation&);
ExitCode launch_command(const Invocation&);
ExitCode sweep_command(const Invocation&);
ExitCode status_command(const Invocation&);
ExitCode eval_command(const Invocation&);
ExitCode overfit_command(const Invocation&);
ExitCode verify_command(const Invocation&);
ExitCode doctor_command(const Invocation&);
ExitCode config_command(const Invocation&);
ExitCode checkpoint_command(const Invocation&);
ExitCode models_command(const Invocation&);
ExitCode datasets_command(const Invocation&);

}  // namespace tugline
