// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <boost/program_options.hpp>

#include <filesystem>
#include <ostream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/config/load.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/log.hpp"
#include "tugline/core/metrics/json_text.hpp"
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

/// A file, or of a run's folder the newest checkpoint that verifies: the one whose figures result.json holds. Else the best.
fs::path find_checkpoint(const fs::path& given, bool best, std::vector<std::string>& skipped) {
  if (!fs::exists(given)) throw IoError("'" + given.string() + "' does not exist; give a checkpoint, or the folder of a run");
  if (!fs::is_directory(given)) {
    if (best) throw UsageError("--best: '" + given.string() + "' is one checkpoint; give the folder of a run");
    return given;
  }
  const CheckpointFolder checkpoints(folder_of_checkpoints(given));
  const fs::path found = best ? checkpoints.best() : checkpoints.newest_valid(&skipped);
  if (!found.empty()) return found;
  if (!skipped.empty()) {
    throw CheckpointError(fmt::format("no checkpoint in '{}' is intact: {}", given.string(), fmt::join(skipped, "; ")));
  }
  throw CheckpointError(fmt::format("'{}' holds no {}checkpoint; give a checkpoint, or the folder of a run", given.string(),
                                    best ? "best " : ""));
}

std::string as_text(const Evaluation& result, const std::string& split, const fs::path& file) {
  const std::string accuracy = result.has_accuracy ? fmt::format("  accuracy {:.2f}%", 100 * result.accuracy) : "";
  return fmt::format("{}: {} samples  loss {:.4f}{}  ({})", split, result.samples, result.loss, accuracy, file.string());
}

std::string as_json(const Evaluation& result, const std::string& split, const fs::path& file) {
  boost::json::object fields{{"checkpoint", file.string()}, {"split", split}, {"samples", result.samples}, {"loss", result.loss}};
  if (result.has_accuracy) fields["accuracy"] = result.accuracy;
  return json_line(fields);
}

}  // namespace

ExitCode eval_command(const Invocation& invocation) {
  const Command& command = command_named("eval");
  World& world = invocation.world;
  po::options_description options("Options");
  options.add_options()("help,h", "this text")("split", po::value<std::string>()->default_value("test")->value_name("NAME"),
                                               "train, validation or test")(
      "best", "of a run, the best checkpoint instead of the newest")("json", "one line of JSON");
  if (wants_help(invocation)) {
    invocation.out << help_of(command, &options);
    return ExitCode::done;
  }
  po::variables_map values;
  Checkpoint checkpoint;
  RunConfig config;
  std::string split;
  fs::path file;
  std::vector<std::string> skipped;
  agree(world.control(), [&] {
    const Arguments arguments = parse_arguments(invocation, command, options, values, 1, 1);
    split = values["split"].as<std::string>();
    if (split != "train" && split != "validation" && split != "test") {
      throw UsageError("--split: '" + split + "' is none of train, validation, test");
    }
    file = find_checkpoint(arguments.words[0], values.count("best") > 0, skipped);
    checkpoint = read_checkpoint(file, is_of_model);
    config = parse_config(config_text(checkpoint), file.string() + ":config", arguments.overrides);
  });
  for (const auto& sentence : skipped) log::warn("{}", sentence);
  adopt_config(world, config);
  set_compute_threads(world, config.parallel);
  const Normalisation normalisation = normalisation_of(checkpoint);
  const DataSplits data = open_agreed_data(world, config, &normalisation);
  Learner learner(config, invocation.models, data.train->spec(), world);
  agree(world.control(), [&] {
    try {
      restore_model(checkpoint, learner.parameters(), learner.buffers());
    } catch (const CheckpointError& error) {
      throw CheckpointError(file.string() + ": " + error.what());
    }
  });
  const auto& part = split == "train" ? data.train : split == "validation" ? data.validation : data.test;
  if (part->size() == 0) throw AgreedError(ExitCode::bad_data, "--split: the " + split + " split is empty; try another one");
  const Evaluation result = evaluate(learner, part, config.train.eval_batch, world);
  invocation.out << (values.count("json") > 0 ? as_json : as_text)(result, split, file) << '\n';
  return ExitCode::done;
}

}  // namespace tugline
