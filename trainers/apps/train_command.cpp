// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <boost/program_options.hpp>

#include <iostream>
#include <optional>

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <fmt/format.h>
#include <torch/version.h>

#include "tugline/core/atomic_file.hpp"
#include "tugline/core/config/load.hpp"
#include "tugline/core/log.hpp"
#include "tugline/core/metrics/console_mode.hpp"
#include "tugline/core/metrics/event_log.hpp"
#include "tugline/core/metrics/progress_line.hpp"
#include "tugline/core/metrics/rank_table.hpp"
#include "tugline/core/metrics/tensorboard.hpp"
#include "tugline/core/signal_number.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/apps/command.hpp"
#include "tugline/trainers/fault_injector.hpp"
#include "tugline/trainers/learner.hpp"
#include "tugline/trainers/prepare.hpp"
#include "tugline/trainers/run/environment.hpp"
#include "tugline/trainers/run/result.hpp"
#include "tugline/trainers/run/run_directory.hpp"
#include "tugline/trainers/run_shares.hpp"
#include "tugline/trainers/run_updates.hpp"
#include "tugline/trainers/stop_signal.hpp"
#include "tugline/trainers/trainer.hpp"

namespace tugline {
namespace po = boost::program_options;
namespace {

struct OpenedRun {
  std::optional<RunDirectory> directory;   // rank 0
  RunPaths paths;
  RunState state = RunState::created;
};

RunOptions run_options(const RunConfig& config, const po::variables_map& values) {
  RunOptions options;
  if (values.count("run-dir") > 0) options.folder = values["run-dir"].as<std::string>();
  options.config_name = config.name;
  options.config_yaml = to_yaml(config);
  options.default_yaml = to_yaml(RunConfig{});
  options.fresh = values.count("fresh") > 0;
  return options;
}

/// Rank 0 looks, so that all do the same.
bool is_finished(World& world, const RunOptions& options) {
  std::int64_t finished = 0;
  agree(world.control(), [&] {
    if (world.rank() == 0) finished = look_for_run(options) == RunState::finished ? 1 : 0;
  });
  return world.control().all_reduce(finished, ReduceOp::max) != 0;
}

/// Rank 0 makes or finds the folder; the others learn its name.
OpenedRun open_run(World& world, const RunOptions& options) {
  OpenedRun run;
  agree(world.control(), [&] {
    if (world.rank() != 0) return;
    run.directory.emplace(options);
    run.paths = run.directory->paths();
    run.state = run.directory->state();
  });
  run.paths = RunPaths(world.control().broadcast(run.paths.folder().string(), 0));
  run.state = static_cast<RunState>(world.control().all_reduce(static_cast<std::int64_t>(run.state), ReduceOp::max));
  return run;
}

/// Sinks of rank 0; an empty log elsewhere.
RunLog open_log(World& world, const RunConfig& config, const RunPaths& paths, const std::string& progress) {
  RunLog log;
  agree(world.control(), [&] {
    log::open_rank_file(paths.log(world.rank()), world.rank());
    if (world.rank() != 0) return;
    const ConsoleFacts facts = gather_console_facts(progress);
    log.add(std::make_unique<EventLog>(paths.metrics()), config.log.every_steps);
    if (config.log.tensorboard) log.add(std::make_unique<TensorBoardWriter>(paths.folder()), config.log.every_steps);
    log.add(std::make_unique<ProgressLine>(std::cout, Clock::steady(), ProgressOptions{decide_console(facts).mode, facts.columns}));
  });
  return log;
}

void write_environment(World& world, const Invocation& invocation, const RunConfig& config, const RunPaths& paths, int threads, Learner& learner) {
  ProgramFacts program{invocation.command_line, {{"libtorch", TORCH_VERSION}}};
  const auto environment = gather_environment(world, program);
  agree(world.control(), [&] {
    if (world.rank() == 0) write_file_atomically(paths.environment(), boost::json::serialize(environment) + "\n");
  });
  log::info("run {}: {} rank{} over {}, {} thread{} each, {}", paths.folder().string(), world.size(), world.size() == 1 ? "" : "s",
            learner.gradients().backend(), threads, threads == 1 ? "" : "s",
            learner.device().is_cpu() ? describe_cores(environment) : learner.device().str());
  if (config.parallel.strategy == "local") {
    const LocalConfig& local = config.parallel.local;
    log::info("local rounds of {} steps, outer step {} with momentum {}", local.steps, local.outer_lr, local.outer_momentum);
  }
  if (config.parallel.strategy == "async") {
    const auto& staleness = config.parallel.async.staleness;
    log::info("asynchronous steps, {}", staleness ? fmt::format("staleness at most {}", *staleness) : "staleness bounded by the number of ranks and their speeds");
  }
}

/// The same command continues it.
bool goes_on(const TrainResult& trained) {
  return trained.ending == TrainResult::Ending::signal || trained.ending == TrainResult::Ending::paused;
}

std::string reason_of(const TrainResult& trained, const TrainConfig& config) {
  switch (trained.ending) {
    case TrainResult::Ending::done: return trained.steps == config.steps ? "steps" : "epochs";
    case TrainResult::Ending::early_stop: return "early stop";
    case TrainResult::Ending::time_limit: return "time limit";
    case TrainResult::Ending::paused: return "until";
    case TrainResult::Ending::signal: break;
  }
  return "signal";
}

Result describe_result(const TrainResult& trained, const RunConfig& config, World& world, const CheckpointFolder& checkpoints,
                       const RunPaths& paths) {
  Result result;
  result.status = goes_on(trained) ? Result::kStopped : Result::kDone;
  result.reason = reason_of(trained, config.train);
  result.ranks = world.size();
  result.epochs = trained.epochs;
  result.steps = trained.steps;
  result.seconds = trained.seconds;
  result.samples_per_second = trained.samples_per_second;
  const auto add = [&](const char* name, const Evaluation& split) {
    if (split.samples == 0) return;
    result.splits[name] = {split.loss, split.has_accuracy ? std::optional(split.accuracy) : std::nullopt};
  };
  add("train", trained.train);
  add("validation", trained.validation);
  add("test", trained.test);
  const auto relative = [&](const std::filesystem::path& file) {
    return file.empty() ? "" : file.lexically_relative(paths.folder()).string();
  };
  result.checkpoint = relative(checkpoints.path_of(trained.steps));
  result.best_checkpoint = relative(checkpoints.best());
  return result;
}

/// `ranks`: who was waited for, in lines; may be empty.
std::string summary(const Result& result, const RunPaths& paths, const std::string& ranks) {
  const bool as_planned = result.reason == "epochs" || result.reason == "steps";
  std::string text = fmt::format("{}{}: {} epoch{}, {} steps in {:.1f} s, {:.0f} samples/s", result.status,
                                 as_planned ? "" : " (" + result.reason + ")", result.epochs, result.epochs == 1 ? "" : "s",
                                 result.steps, result.seconds, result.samples_per_second);
  for (const char* name : {"train", "validation", "test"}) {
    const auto split = result.splits.find(name);
    if (split == result.splits.end()) continue;
    text += fmt::format("\n  {:<11} loss {:.4f}", name, split->second.loss);
    if (split->second.accuracy) text += fmt::format("  accuracy {:.2f}%", 100 * *split->second.accuracy);
  }
  if (!ranks.empty()) text += "\n" + ranks;
  text += "\n  " + paths.folder().string();
  if (result.status == Result::kStopped) text += "\nthe same command with --run-dir " + paths.folder().string() + " goes on";
  return text;
}

/// What the command line says beside config and folder.
struct TrainWords {
  std::string progress, replay;
  std::int64_t until_epochs = 0;
  std::vector<Fault> faults;
};

/// Opens the run once config, data and model are known to be good, and trains in it; rank 0 writes result.json last.
ExitCode train_in(const Invocation& invocation, const RunConfig& config, const RunOptions& options, const TrainWords& words,
                  const StopSignal& stop) {
  World& world = invocation.world;
  const int threads = set_compute_threads(world, config.parallel);
  const DataSplits data = open_agreed_data(world, config);
  Learner learner(config, invocation.models, data.train->spec(), world, nullptr, ParameterCopies::per_host);
  const RecordedShares recorded = read_run_shares(config, world);   // before --fresh may delete them
  const auto repeat = read_run_updates(config, world);
  require_trainable(world, config, learner, data, recorded);
  const OpenedRun run = open_run(world, options);
  TrainResult trained;
  std::string ranks;
  const CheckpointFolder checkpoints(run.paths.checkpoints());
  {
    RunLog log = open_log(world, config, run.paths, words.progress);
    auto owned_table = std::make_unique<RankTable>(world.hosts());
    const RankTable& table = *owned_table;
    if (world.rank() == 0) log.add(std::move(owned_table));
    write_environment(world, invocation, config, run.paths, threads, learner);
    log.event("start", {{"ranks", world.size()}, {"threads", threads}});
    std::optional<FaultInjector> faults;
    if (!words.faults.empty()) faults.emplace(words.faults, world.rank(), run.paths.folder());
    Trainer trainer({.world = world, .config = config, .learner = learner, .data = data, .log = log, .checkpoints = checkpoints,
                     .stop = stop, .faults = faults ? &*faults : nullptr, .recorded = recorded, .repeat = repeat, .record_update = open_update_record(config, run.paths, world),
                     .until_epochs = words.until_epochs});
    if (run.state == RunState::resumed && trainer.resume()) {
      invocation.out << "continuing at step " << trainer.steps_done() << std::endl;
    } else if (!config.train.init_from.empty()) {
      learner.init_from(config.train.init_from, world);
    }
    trained = trainer.run();
    log.event("end", {{"steps", trained.steps}});
    if (world.rank() == 0 && (table.somebody_waits() || config.parallel.strategy == "async")) ranks = table.text();
  }
  agree(world.control(), [&] {
    if (world.rank() != 0) return;
    const Result result = describe_result(trained, config, world, checkpoints, run.paths);
    write_result(run.paths.result(), result);
    invocation.out << summary(result, run.paths, ranks) << std::endl;
  });
  log::close_rank_file();
  return goes_on(trained) ? ExitCode::run_again : ExitCode::done;
}

}  // namespace

ExitCode train_command(const Invocation& invocation) {
  const Command& command = command_named("train");
  World& world = invocation.world;
  po::options_description options("Options");
  options.add_options()("help,h", "this text")(
      "run-dir", po::value<std::string>()->value_name("DIR"),
      "where the run lives (default runs/<config name>-<time>); an unfinished run there goes on")(
      "fresh", "start over: delete what an older run wrote into the folder")(
      "until", po::value<std::int64_t>()->value_name("EPOCHS"), "stop when so many are done; the same command without it goes on (exit 75)")(
      "progress", po::value<std::string>()->default_value("auto")->value_name("MODE"), "auto, live or plain")(
      "replay", po::value<std::string>()->value_name("DIR"), "make that run's cuts, or asynchronous updates, again: the same bits")(
      "inject", po::value<std::vector<std::string>>()->composing()->value_name("FAULT"),
      "a drill: kill:rank=1,step=7 (or freeze, hang, loader, slow, nan, flip, io); may be repeated");
  po::variables_map values;
  Arguments arguments;
  TrainWords words;
  if (wants_help(invocation)) {
    invocation.out << help_of(command, &options);
    return ExitCode::done;
  }
  agree(world.control(), [&] {
    arguments = parse_arguments(invocation, command, options, values, 1, 1);
    if (values.count("run-dir") > 0 && values["run-dir"].as<std::string>().empty()) throw UsageError("--run-dir: no folder given");
    words.progress = values["progress"].as<std::string>();
    decide_console(gather_console_facts(words.progress));
    if (values.count("until") > 0) words.until_epochs = values["until"].as<std::int64_t>();
    if (values.count("until") > 0 && words.until_epochs < 1) throw UsageError("--until: a number of epochs, at least 1");
    if (values.count("replay") > 0) words.replay = values["replay"].as<std::string>();
    if (values.count("inject") == 0) return;
    for (const auto& text : values["inject"].as<std::vector<std::string>>()) {
      words.faults.push_back(parse_fault(text));
      if (words.faults.back().rank >= world.size()) {
        throw UsageError(fmt::format("--inject {}: there is no rank {} among {}", text, words.faults.back().rank, world.size()));
      }
    }
  });
  StopSignal stop;
  RunConfig config = load_agreed_config(world, arguments.words[0], arguments.overrides);
  if (!words.replay.empty()) {
    const bool async = config.parallel.strategy == "async";
    if (!async) arguments.overrides.push_back("parallel.balance.mode=replay");
    arguments.overrides.push_back((async ? "parallel.async.replay=" : "parallel.balance.replay=") + words.replay);
    config = load_agreed_config(world, arguments.words[0], arguments.overrides);
  }
  for (const std::string& name : config.train.stop_signals) stop.also(signal_number(name));
  const RunOptions wanted = run_options(config, values);
  if (is_finished(world, wanted)) {
    invocation.out << "run " << wanted.folder.string() << " is finished; --fresh starts over\n";
    return ExitCode::done;
  }
  return train_in(invocation, config, wanted, words, stop);
}

}  // namespace tugline
