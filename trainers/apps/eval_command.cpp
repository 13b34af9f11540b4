// SPDX-License-Identifier: Apache-2.0
#include <boost/program_options.hpp>

#include <filesystem>
#include <ostream>

#include <fmt/format.h>

#include "tugline/core/config/load.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/state/train_state.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/apps/command.hpp"
#include "tugline/trainers/evaluate.hpp"
#include "tugline/trainers/learner.hpp"
#include "tugline/trainers/prepare.hpp"

namespace tugline {
namespace po = boost::program_options;
namespace fs = std::filesystem;
namespace {

/// A file, or the best (else the newest valid) checkpoint of a run.
fs::path find_checkpoint(const fs::path& given) {
  if (!fs::exists(given)) throw IoError("'" + given.string() + "' does not exist");
  if (!fs::is_directory(given)) return given;
  const CheckpointFolder checkpoints(fs::is_directory(given / "checkpoints") ? given / "checkpoints" : given);
  if (const fs::path best = checkpoints.best(); !best.empty()) return best;
  const fs::path newest = checkpoints.newest_valid(nullptr);
  if (newest.empty()) throw CheckpointError("no checkpoint in '" + given.string() + "'");
  return newest;
}

void print(const Evaluation& result, const std::string& split, bool json, std::ostream& out) {
  std::string accuracy;
  if (json) {
    if (result.has_accuracy) accuracy = fmt::format(", \"accuracy\": {}", result.accuracy);
    out << fmt::format("{{\"split\": \"{}\", \"samples\": {}, \"loss\": {}{}}}\n", split, result.samples, result.loss, accuracy);
  } else {
    if (result.has_accuracy) accuracy = fmt::format("  accuracy {:.2f} %", 100 * result.accuracy);
    out << fmt::format("{}: {} samples  loss {:.4f}{}\n", split, result.samples, result.loss, accuracy);
  }
}

}  // namespace

ExitCode eval_command(const Invocation& invocation) {
  const Command& command = command_named("eval");
  World& world = invocation.world;
  po::options_description options("Options");
  options.add_options()("help,h", "this text")("split", po::value<std::string>()->default_value("test")->value_name("NAME"),
                                               "train, validation or test")("json", "one line of JSON");
  if (wants_help(invocation)) {
    invocation.out << help_of(command, &options);
    return ExitCode::done;
  }
  po::variables_map values;
  Checkpoint checkpoint;
  RunConfig config;
  std::string split;
  agree(world.control(), [&] {
    const Arguments arguments = parse_arguments(invocation, command, options, values, 1, 1);
    split = values["split"].as<std::string>();
    if (split != "train" && split != "validation" && split != "test") {
      throw UsageError("--split: '" + split + "' is none of train, validation, test");
    }
    const fs::path file = find_checkpoint(arguments.words[0]);
    checkpoint = read_checkpoint(file);
    config = parse_config(config_text(checkpoint), file.string() + ":config", arguments.overrides);
  });
  check_config_for_world(world, config);
  set_compute_threads(world, config.parallel);
  const Normalisation normalisation = normalisation_of(checkpoint);
  const DataSplits data = open_agreed_data(world, config, &normalisation);
  Learner learner(config, invocation.models, data.train->spec(), world);
  agree(world.control(), [&] { restore_model(checkpoint, learner.parameters(), learner.buffers()); });
  const auto& part = split == "train" ? data.train : split == "validation" ? data.validation : data.test;
  if (part->size() == 0) throw AgreedError(ExitCode::bad_data, "the " + split + " split is empty");
  print(evaluate(learner, part, config.train.eval_batch, world), split, values.count("json") > 0, invocation.out);
  return ExitCode::done;
}

}  // namespace tugline
