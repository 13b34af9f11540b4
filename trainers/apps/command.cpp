// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/apps/command.hpp"

#include <boost/program_options.hpp>

#include <algorithm>
#include <sstream>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/config/load.hpp"
#include "tugline/core/config/nearest.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/run/run_directory.hpp"

namespace tugline {
namespace po = boost::program_options;

const std::vector<Command>& commands() {
  static const std::vector<Command> table{
      {"train", "train a model; the same command with the same --run-dir continues", "train CONFIG [key=value ...]",
       "mpirun -n 2 tugline train configs/digits.yaml optim.lr=0.05 --run-dir runs/first", train_command},
      {"launch", "start mpirun, and start it again when ranks fail", "launch -n N [options] -- train CONFIG [key=value ...]",
       "tugline launch -n 2 -- train configs/digits.yaml --run-dir runs/first", launch_command},
      {"sweep", "search hyperparameters, with workers that share a folder and nothing else",
       "sweep plan|run|work|status|best|rank|export|replay|retry|ask|tell FILE [key=value ...]", "tugline sweep run configs/sweeps/digits.yaml",
       sweep_command},
      {"status", "how a run goes, and which rank the others wait for", "status RUN_DIR", "tugline status runs/first", status_command},
      {"eval", "evaluate a checkpoint", "eval CHECKPOINT|RUN_DIR [key=value ...]",
       "mpirun -n 2 tugline eval runs/first --split test", eval_command},
      {"overfit", "can the model learn ten samples by heart? exit 0, or 3 and a diagnosis", "overfit CONFIG [key=value ...]",
       "mpirun -n 2 tugline overfit configs/digits.yaml --junit overfit.xml", overfit_command},
      {"verify", "is the gradient of N ranks the gradient of one? exit 0 or 3", "verify CONFIG [key=value ...]",
       "mpirun -n 2 tugline verify configs/digits.yaml", verify_command},
      {"doctor", "look at this machine: MPI, cores, limits, files", "doctor [DIR] | --ranks | --devices", "mpirun -n 2 tugline doctor runs",
       doctor_command},
      {"config", "show a resolved config, or the schema", "config show CONFIG [key=value ...] | config schema [--json]",
       "tugline config show configs/digits.yaml optim.lr=0.05", config_command},
      {"checkpoint", "list, show, verify, compare, export or prune checkpoints",
       "checkpoint ls|prune RUN_DIR | show|verify FILE | diff FILE FILE | export FILE|RUN_DIR TO",
       "tugline checkpoint ls runs/first", checkpoint_command},
      {"models", "the models a config can name", "models", "tugline models", models_command},
      {"datasets", "the data sets a config can name", "datasets", "tugline datasets", datasets_command},
  };
  return table;
}

const Command& command_named(const std::string& name) {
  for (const Command& command : commands()) {
    if (name == command.name) return command;
  }
  std::vector<std::string_view> names;
  for (const Command& command : commands()) names.push_back(command.name);
  throw UsageError(fmt::format("'{}' is not a command{}; there are {}", name,
                               config::did_you_mean(config::nearest_word(name, names)), fmt::join(names, ", ")));
}

bool wants_help(const Invocation& invocation) {
  return std::any_of(invocation.arguments.begin(), invocation.arguments.end(),
                     [](const std::string& word) { return word == "--help" || word == "-h"; });
}

std::filesystem::path folder_of_checkpoints(const std::filesystem::path& run) {
  return std::filesystem::is_directory(run / "checkpoints") ? run / "checkpoints" : run;
}

std::string help_of(const Command& command, const po::options_description* options) {
  std::ostringstream out;
  out << "tugline " << command.usage << "\n\n" << command.summary << ".\n";
  if (options != nullptr && !options->options().empty()) out << '\n' << *options;
  out << "\nExample\n  " << command.example << '\n';
  return out.str();
}

// Where positional arguments are gathered; a name that nobody types as an option.
constexpr const char* kWord = "an argument";

Arguments parse_arguments(const Invocation& invocation, const Command& command, const po::options_description& options,
                          po::variables_map& values, std::size_t min_words, std::size_t max_words) {
  Arguments result;
  po::options_description all;
  all.add(options).add_options()(kWord, po::value<std::vector<std::string>>());
  po::positional_options_description positional;
  positional.add(kWord, -1);
  constexpr int kStyle = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
  try {
    po::store(po::command_line_parser(invocation.arguments).options(all).positional(positional).style(kStyle).run(), values);
    po::notify(values);
  } catch (const po::error& error) {
    throw UsageError(std::string(error.what()) + "; usage: tugline " + command.usage);
  }
  if (values.count(kWord) > 0) {
    for (const auto& word : values[kWord].as<std::vector<std::string>>()) {
      const bool override_like = word.find('=') != std::string::npos;
      (override_like ? result.overrides : result.words).push_back(word);
    }
  }
  if (!result.overrides.empty() && std::string_view(command.usage).find("key=value") == std::string_view::npos) {
    throw UsageError("'" + result.overrides[0] + "' is not for this command; usage: tugline " + command.usage);
  }
  const std::size_t words = result.words.size();
  if (words < min_words) throw UsageError("an argument is missing; usage: tugline " + std::string(command.usage));
  if (words > max_words) {
    throw UsageError("'" + result.words[max_words] + "' is one argument too many; usage: tugline " + command.usage);
  }
  return result;
}

void adopt_config(World& world, const RunConfig& config) {
  agree(world.control(), [&] {
    const std::string backend = world.communicator().backend();
    if (config.parallel.backend == "mpi" && backend != "mpi") {
      throw ConfigError("parallel.backend: mpi needs a launcher: start with mpirun -n N tugline ...");
    }
    if (config.parallel.backend == "threads" && world.size() > 1) {
      throw ConfigError("parallel.backend: threads is for one process; under mpirun use mpi or auto");
    }
  });
  const auto all = world.control().all_gather(to_yaml(config));
  const auto other = std::find_if(all.begin(), all.end(), [&](const std::string& yaml) { return yaml != all.front(); });
  if (other != all.end()) {
    throw AgreedError(ExitCode::disagree, fmt::format("ranks disagree on the config, rank 0 there and rank {} here: {}; start all ranks with "
                                                      "the same file and overrides", other - all.begin(), first_difference(all.front(), *other)));
  }
  if (config.parallel.debug) world.debug_collectives();
}

RunConfig load_agreed_config(World& world, const std::string& file, const std::vector<std::string>& overrides) {
  RunConfig config;
  agree(world.control(), [&] { config = load_config(file, overrides); });
  adopt_config(world, config);
  return config;
}

}  // namespace tugline
