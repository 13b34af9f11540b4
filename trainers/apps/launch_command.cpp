// SPDX-License-Identifier: Apache-2.0
#include <boost/program_options.hpp>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <ostream>
#include <sstream>

#include <fmt/format.h>

#include "tugline/core/config/load.hpp"
#include "tugline/core/signal_number.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/apps/command.hpp"
#include "tugline/trainers/launch/process_tree.hpp"
#include "tugline/trainers/launch/supervisor.hpp"
#include "tugline/trainers/run/run_directory.hpp"

namespace tugline {
namespace po = boost::program_options;
namespace fs = std::filesystem;
namespace {

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

/// What stands behind "--": train, and its arguments, without --run-dir and --fresh.
struct Training {
  std::string config;
  std::vector<std::string> overrides;
  std::vector<std::string> rest;   // other options, as they are
  fs::path run_dir;
  bool fresh = false;
};

Training read_training(const std::vector<std::string>& words) {
  if (words.empty() || words[0] != "train") {
    throw UsageError("launch: what it starts stands behind --, and is `train`: tugline launch -n 2 -- train configs/digits.yaml");
  }
  po::options_description options;
  options.add_options()("run-dir", po::value<std::string>())("fresh", "")("progress", po::value<std::string>())(
      "inject", po::value<std::vector<std::string>>()->composing())(
      "words", po::value<std::vector<std::string>>()->default_value({}, ""));
  po::positional_options_description positional;
  positional.add("words", -1);
  po::variables_map values;
  try {
    po::store(po::command_line_parser(std::vector<std::string>(words.begin() + 1, words.end())).options(options).positional(positional).run(),
              values);
  } catch (const po::error& error) {
    throw UsageError(fmt::format("launch: train: {}; see tugline train --help", error.what()));
  }
  Training training;
  for (const std::string& word : values["words"].as<std::vector<std::string>>()) {
    if (word.find('=') != std::string::npos) {
      training.overrides.push_back(word);
    } else if (training.config.empty()) {
      training.config = word;
    } else {
      throw UsageError(fmt::format("launch: train takes one config, and there are '{}' and '{}'", training.config, word));
    }
  }
  if (training.config.empty()) throw UsageError("launch: train needs a config");
  if (values.count("run-dir") > 0) training.run_dir = values["run-dir"].as<std::string>();
  training.fresh = values.count("fresh") > 0;
  if (values.count("progress") > 0) training.rest = {"--progress", values["progress"].as<std::string>()};
  if (values.count("inject") > 0) {
    for (const auto& fault : values["inject"].as<std::vector<std::string>>()) training.rest.insert(training.rest.end(), {"--inject", fault});
  }
  return training;
}

LaunchOptions launch_options(const po::variables_map& values, const Training& training) {
  LaunchOptions options;
  options.ranks = values["ranks"].as<int>();
  if (options.ranks < 1) throw UsageError(fmt::format("-n {}: at least 1 rank is needed", options.ranks));
  options.min_ranks = values.count("min-ranks") > 0 ? values["min-ranks"].as<int>() : options.ranks;
  if (options.min_ranks < 1 || options.min_ranks > options.ranks) {
    throw UsageError(fmt::format("--min-ranks {}: it is between 1 and {}, the ranks of -n", options.min_ranks, options.ranks));
  }
  if (values.count("hosts") > 0) options.hosts = parse_hosts(values["hosts"].as<std::string>(), options.ranks);
  options.mpirun = words_of(values["mpirun"].as<std::string>());
  if (options.mpirun.empty()) throw UsageError("--mpirun: no program given");
  options.max_restarts = values["max-restarts"].as<int>();
  if (options.max_restarts < 0) throw UsageError("--max-restarts: 0 or more");
  options.grace_seconds = values["grace"].as<double>();
  if (!(options.grace_seconds >= 0)) throw UsageError("--grace: 0 or more seconds");
  options.program = {own_program(), "train", training.config};
  options.program.insert(options.program.end(), training.overrides.begin(), training.overrides.end());
  options.program.insert(options.program.end(), training.rest.begin(), training.rest.end());
  if (training.fresh) options.only_the_first_time = {"--fresh"};
  return options;
}

/// The folder that was named, or a new one, which is gone again when no attempt came so far as to write into it.
class RunFolder {
 public:
  RunFolder(const fs::path& named, const std::string& config_name)
      : path_(named.empty() ? make_run_folder(config_name) : named), made_(named.empty()) {}
  ~RunFolder() {
    std::error_code ignored;
    if (made_ && fs::is_empty(path_, ignored)) fs::remove(path_, ignored);
  }
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  bool made_;
};

}  // namespace

ExitCode launch_command(const Invocation& invocation) {
  const Command& command = command_named("launch");
  po::options_description options("Options");
  options.add_options()("help,h", "this text")(
      "ranks,n", po::value<int>()->default_value(1)->value_name("N"), "ranks")(
      "hosts", po::value<std::string>()->value_name("A:2,B:2"), "where they run, and how many on each")(
      "min-ranks", po::value<int>()->value_name("N"), "when hosts are gone, go on with as few (default: all)")(
      "max-restarts", po::value<int>()->default_value(3)->value_name("N"), "in a row that bring no newer checkpoint")(
      "grace", po::value<double>()->default_value(120, "120")->value_name("S"), "seconds to save in after a request to stop")(
      "mpirun", po::value<std::string>()->default_value("mpirun")->value_name("WORDS"), "mpirun, with options of its own");
  if (wants_help(invocation)) {
    invocation.out << help_of(command, &options);
    return ExitCode::done;
  }
  if (invocation.world.size() > 1 || invocation.world.communicator().backend() == "mpi") {
    throw UsageError("launch starts mpirun itself: call it without");
  }
  const auto split = std::find(invocation.arguments.begin(), invocation.arguments.end(), "--");
  const std::vector<std::string> own(invocation.arguments.begin(), split);
  const std::vector<std::string> behind(split == invocation.arguments.end() ? split : split + 1, invocation.arguments.end());
  po::variables_map values;
  const Invocation mine{invocation.world, invocation.models, own, invocation.command_line, invocation.out};
  parse_arguments(mine, command, options, values, 0, 0);
  const Training training = read_training(behind);
  LaunchOptions launch = launch_options(values, training);
  const RunConfig config = load_config(training.config, training.overrides);   // a mistake shows before anything starts
  for (const std::string& name : config.train.stop_signals) launch.stop_signals.push_back(signal_number(name));
  const RunFolder folder(training.run_dir, config.name);
  launch.run_dir = folder.path();
  launch.program.insert(launch.program.end(), {"--run-dir", launch.run_dir.string()});
  return static_cast<ExitCode>(supervise(launch));
}

}  // namespace tugline
