// SPDX-License-Identifier: Apache-2.0
#include <sched.h>

#include <boost/json.hpp>
#include <boost/program_options.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <iostream>
#include <map>
#include <set>
#include <variant>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/config/load.hpp"
#include "tugline/core/config/nearest.hpp"
#include "tugline/core/cpu.hpp"
#include "tugline/core/metrics/console_mode.hpp"
#include "tugline/core/metrics/live_line.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/apps/command.hpp"
#include "tugline/trainers/sweep/crew.hpp"
#include "tugline/trainers/sweep/report.hpp"
#include "tugline/trainers/sweep/space/points.hpp"
#include "tugline/trainers/sweep/trial_run.hpp"
#include "tugline/trainers/sweep/worker.hpp"

namespace tugline {
namespace po = boost::program_options;
namespace {

using namespace sweep;

constexpr int kTriedPoints = 20;              // whose configs are checked before anything starts
constexpr double kAskedLeaseSeconds = 86400;  // of a trial that another program runs: nobody beats for it

/// A call of `sweep`, without its first word.
struct Call {
  const Invocation& invocation;
  std::string file;
  std::vector<std::string> words;       // behind the file
  std::vector<std::string> pairs;       // key=value
  const po::variables_map& values;
  const SweepConfig& sweep;
};

double read_number(const std::string& text, const std::string& what) {
  double value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size()) throw UsageError(fmt::format("{}: expected a number, found '{}'", what, text));
  return value;
}

std::int64_t read_count(const std::string& text, const std::string& what) {
  std::int64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size()) throw UsageError(fmt::format("{}: expected a whole number, found '{}'", what, text));
  return value;
}

std::map<std::string, double> read_pairs(const std::vector<std::string>& pairs) {
  std::map<std::string, double> result;
  for (const std::string& pair : pairs) {
    const auto equals = pair.find('=');
    if (equals == 0 || equals == pair.npos) throw UsageError(fmt::format("expected metric=number, found '{}'", pair));
    result[pair.substr(0, equals)] = read_number(pair.substr(equals + 1), pair.substr(0, equals));
  }
  return result;
}

/// Values that are each allowed may still not go together: better told now than by the first trial that has them.
void require_trainable_points(const SweepConfig& config) {
  if (!config.base) return;
  load_config(*config.base);
  for (int number = 0; number < kTriedPoints; ++number) {
    const auto words = training_overrides(config, draw_allowed(config.space, config.seed, number));
    try {
      load_config(*config.base, words);
    } catch (const ConfigError& error) {
      throw ConfigError(fmt::format("the sweep would try {}, which is no config ({}); change the space, or exclude it with forbid",
                                    fmt::join(words, " "), error.what()));
    }
  }
}

void require_base(const SweepConfig& config, const char* command) {
  if (!config.base) throw UsageError(fmt::format("sweep {}: the sweep has no sweep.base to train; use ask and tell", command));
}

ExitCode plan(const Call& call) {
  require_trainable_points(call.sweep);
  SweepFolder folder(call.sweep);
  call.invocation.out << plan_text(folder);
  return ExitCode::done;
}

ExitCode work(const Call& call) {
  require_base(call.sweep, "work");
  if (call.values.count("cores") > 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int core : parse_core_list(call.values["cores"].as<std::string>())) CPU_SET(core, &set);
    if (::sched_setaffinity(0, sizeof set, &set) != 0) {
      throw UsageError(fmt::format("sweep work --cores {}: none of them is one that this process may use", call.values["cores"].as<std::string>()));
    }
  }
  forget_launcher();
  return Worker(call.sweep).run();
}

ExitCode run_with_console(const Call& call, const Crew& size) {
  std::ostream& out = call.invocation.out;
  const ConsoleFacts console = gather_console_facts();
  if (call.invocation.world.rank() != 0 || decide_console(console).mode == ConsoleMode::plain) {
    return run_crew(call.sweep, call.file, size, {.say = [&](const std::string& line) { out << line << std::endl; }, .draw = {}});
  }
  LiveLine live(out, console.columns);
  return run_crew(call.sweep, call.file, size, {.say = [&](const std::string& line) { live.print(line); },
                                                .draw = [&](const std::string& text) { live.draw(text); }});
}

ExitCode run(const Call& call) {
  require_base(call.sweep, "run");
  World& world = call.invocation.world;
  require_trainable_points(call.sweep);
  Crew size;
  const bool launched = world.communicator().backend() == "mpi";
  for (int rank = 0; rank < world.size() && launched; ++rank) {   // a worker per rank
    if (world.hosts()[static_cast<std::size_t>(rank)] != world.hosts()[static_cast<std::size_t>(world.rank())]) continue;
    size.of += rank == world.rank() ? 0 : 1;
    size.first += rank < world.rank() ? 1 : 0;
  }
  if (!launched) {
    const int fitting = std::max(1, cpu_budget().usable / call.sweep.run.ranks_per_trial);
    size.workers = size.of = call.values.count("workers") > 0 ? call.values["workers"].as<int>() : fitting;
    if (size.workers < 1) throw UsageError("-n: at least 1 worker");
  }
  if (world.rank() == 0) {
    SweepFolder folder(call.sweep);
    call.invocation.out << plan_text(folder) << std::flush;
  }
  const ExitCode code = run_with_console(call, size);
  if (world.rank() == 0) {
    SweepFolder folder(call.sweep);
    folder.refresh();
    call.invocation.out << best_text(folder);
    if (code == ExitCode::done && ranked(trial_rows(folder)).empty()) return ExitCode::check_said_no;
    if (code == ExitCode::run_again) call.invocation.out << "the same command goes on\n";
  }
  return code;
}

ExitCode show(const Call& call, const std::function<std::string(SweepFolder&)>& text) {
  SweepFolder folder(call.sweep);
  folder.refresh();
  call.invocation.out << text(folder);
  return ExitCode::done;
}

ExitCode rank(const Call& call) {
  std::vector<std::string> pairs = call.pairs;
  if (call.values.count("weight") > 0) {
    for (const auto& pair : call.values["weight"].as<std::vector<std::string>>()) pairs.push_back(pair);
  }
  const auto weights = read_pairs(pairs);
  return show(call, [&](const SweepFolder& folder) {
    std::set<std::string, std::less<>> known;
    for (const Objective& objective : call.sweep.objectives) known.insert(objective.metric);
    for (const TrialRow& row : trial_rows(folder)) {
      for (const auto& [metric, value] : row.outcome.metrics) known.insert(metric);
    }
    for (const auto& [metric, weight] : weights) {
      if (!known.contains(metric)) throw UsageError(fmt::format("sweep rank: no trial has a metric '{}'; there are {}", metric, fmt::join(known, ", ")));
    }
    return rank_text(folder, weights, 20);
  });
}

ExitCode export_table(const Call& call) {
  const std::string format = call.values["format"].as<std::string>();
  if (format != "csv" && format != "jsonl") throw UsageError(fmt::format("sweep export --format {}: csv or jsonl", format));
  return show(call, [&](const SweepFolder& folder) { return format == "csv" ? export_csv(folder) : export_jsonl(folder); });
}

/// Makes every decision again from what it says it knew.
ExitCode replay(const Call& call) {
  SweepFolder folder(call.sweep);
  folder.refresh();
  Replay replayed(folder.planner(), folder.jobs());
  std::int64_t made = 0, wrong = 0;
  for (std::size_t j = 0; j < folder.jobs().size(); ++j) {
    const auto again = replayed.next();
    if (!again) continue;
    ++made;
    const auto* const decision = std::get_if<Decision>(&*again);
    const std::string text = decision != nullptr ? to_json(call.sweep.space, *decision) : "nothing";
    if (text == folder.job(static_cast<std::int64_t>(j)).decision) continue;
    ++wrong;
    call.invocation.out << fmt::format("job {}: {} was decided, and again it is {}\n", j, folder.job(static_cast<std::int64_t>(j)).decision, text);
  }
  call.invocation.out << fmt::format("{} decisions made again, {} differ\n", made, wrong);
  const auto left = static_cast<std::int64_t>(folder.jobs().size()) - made;
  if (left > 0) call.invocation.out << fmt::format("{} cannot be made again: they were damaged, or knew one that was\n", left);
  return wrong == 0 ? ExitCode::done : ExitCode::check_said_no;
}

/// Failed trials, those that were named or all, get new attempts.
ExitCode retry(const Call& call) {
  SweepFolder folder(call.sweep);
  folder.refresh();
  std::vector<std::int64_t> named;
  for (const std::string& word : call.words) named.push_back(read_count(word, "sweep retry"));
  for (const std::int64_t trial : named) {
    const bool known = std::any_of(folder.jobs().begin(), folder.jobs().end(), [&](const JobRecord& job) { return job.decision.trial == trial; });
    if (!known) throw UsageError(fmt::format("sweep retry: there is no trial {} yet", trial));
  }
  int reopened = 0;
  for (std::size_t j = 0; j < folder.jobs().size(); ++j) {
    const JobRecord& job = folder.jobs()[j];
    const bool wanted = named.empty() || std::find(named.begin(), named.end(), job.decision.trial) != named.end();
    if (!wanted || job.decision.is_lost() || job.outcome() == nullptr || job.outcome()->has_value()) continue;
    if (folder.store().reopen(static_cast<std::int64_t>(j), "sweep retry")) ++reopened;
  }
  call.invocation.out << fmt::format("{} trials will be tried again by the next worker\n", reopened);
  return ExitCode::done;
}

std::string to_text(const ClaimedJob& work, const Space& space) {
  return boost::json::serialize(boost::json::object{{"id", fmt::format("{}.{}", work.claim.job, work.claim.attempt)}, {"trial", work.decision.trial},
                                                    {"epochs", work.decision.until}, {"values", plain_values(space, work.decision.point)}});
}

ExitCode ask(const Call& call) {
  SweepFolder folder(call.sweep);
  folder.claim();
  while (true) {
    folder.refresh();
    auto work = folder.take_over(kAskedLeaseSeconds);
    if (!work) {
      const auto next = folder.planner().next(folder.jobs());
      const auto* const decision = std::get_if<Decision>(&next);
      if (decision == nullptr) {
        const bool finished = std::holds_alternative<Planner::Finished>(next);
        call.invocation.out << (finished ? "{\"finished\":true}\n" : "{\"wait\":true}\n");
        return finished ? ExitCode::done : ExitCode::run_again;
      }
      work = folder.append(*decision, kAskedLeaseSeconds);
    }
    if (!work) continue;
    call.invocation.out << to_text(*work, call.sweep.space) << '\n';
    return ExitCode::done;
  }
}

ExitCode tell(const Call& call) {
  if (call.words.size() != 1) throw UsageError("sweep tell FILE ID metric=number ...: the id is what ask gave");
  const std::string& id = call.words[0];
  const auto dot = id.find('.');
  if (dot == id.npos) throw UsageError(fmt::format("sweep tell: '{}' is no id of ask, such as 3.1", id));
  const std::int64_t job = read_count(id.substr(0, dot), "sweep tell");
  const int attempt = static_cast<int>(read_count(id.substr(dot + 1), "sweep tell"));
  Outcome outcome;
  outcome.attempt = attempt;
  outcome.metrics = read_pairs(call.pairs);
  if (call.values.count("failed") > 0) outcome.state = Outcome::State::crashed;
  else if (std::isinf(score(call.sweep.objectives, outcome))) outcome.state = Outcome::State::diverged;
  std::erase_if(outcome.metrics, [](const auto& metric) { return !std::isfinite(metric.second); });
  for (const Objective& objective : call.sweep.objectives) {
    const bool told = std::any_of(call.pairs.begin(), call.pairs.end(), [&](const std::string& pair) { return pair.starts_with(objective.metric + "="); });
    if (objective.weight != 0 && !told && call.values.count("failed") == 0) {
      throw UsageError(fmt::format("sweep tell: {}=NUMBER is missing; or say --failed", objective.metric));
    }
  }
  SweepFolder folder(call.sweep);
  folder.refresh();
  if (job < 0 || job >= folder.store().size()) throw UsageError(fmt::format("sweep tell: there is no job {}", job));
  outcome.epochs = static_cast<double>(folder.jobs()[static_cast<std::size_t>(job)].decision.until);
  const auto claim = folder.store().newest_claim(job);
  if (!claim || claim->attempt != attempt || !folder.store().finish(*claim, {true, to_json(outcome)})) {
    throw UsageError(fmt::format("sweep tell: {} is over or was given to another; what you tell is not counted", id));
  }
  return ExitCode::done;
}

struct Part {
  const char* name;
  ExitCode (*run)(const Call&);
  const char* words;     // behind FILE; empty: none
  const char* summary;
  bool for_mpirun = false;
};
constexpr Part kParts[] = {
    {"plan", plan, "", "what would run, and every mistake in the file"},
    {"run", run, "", "keeps so many trials running as there are cores for, or -n N; also under mpirun, one worker a rank", true},
    {"work", work, "", "one worker: a task of an array, say"},
    {"status", [](const Call& call) { return show(call, status_text); }, "", "a line per trial, also while it runs"},
    {"best", [](const Call& call) { return show(call, best_text); }, "", "the best of the trials that came furthest, and the command that trains it"},
    {"rank", rank, "[METRIC=WEIGHT ...]", "orders trials by other weights, of any metric they have; nothing is trained again"},
    {"export", export_table, "", "the table, as CSV or a JSON object per line"},
    {"replay", replay, "", "makes every decision again from what it knew; exit code 3 when one differs"},
    {"retry", retry, "[TRIAL ...]", "failed trials, all or those named, get new attempts"},
    {"ask", ask, "", "a trial for a program of yours: {\"id\", \"trial\", \"epochs\", \"values\"}, {\"finished\":true}, or {\"wait\":true} and exit code 75"},
    {"tell", tell, "ID METRIC=NUMBER ...", "what came of it; or --failed"}};

const Part& part_named(const std::string& name) {
  std::vector<std::string_view> names;
  for (const Part& part : kParts) {
    if (name == part.name) return part;
    names.push_back(part.name);
  }
  throw UsageError(fmt::format("sweep {}: there is no such command{}; there are {}", name, config::did_you_mean(config::nearest_word(name, names)),
                               fmt::join(names, ", ")));
}

}  // namespace

ExitCode sweep_command(const Invocation& invocation) {
  const Command& command = command_named("sweep");
  po::options_description options("Options");
  options.add_options()("help,h", "this text")(
      "workers,n", po::value<int>()->value_name("N"), "run: trials at a time (default: as many as this machine's cores can)")(
      "cores", po::value<std::string>()->value_name("LIST"), "work: cores of its trials, such as 0-3")(
      "weight", po::value<std::vector<std::string>>()->composing()->value_name("METRIC=W"), "rank: another weight of an objective")(
      "format", po::value<std::string>()->default_value("csv")->value_name("csv|jsonl"), "export: in which form")(
      "failed", "tell: there is no value");
  if (wants_help(invocation)) {
    invocation.out << help_of(command, &options) << '\n';
    for (const Part& part : kParts) invocation.out << fmt::format("  sweep {} FILE {}\n      {}\n", part.name, part.words, part.summary);
    return ExitCode::done;
  }
  po::variables_map values;
  Arguments arguments;
  const Part* part = nullptr;
  SweepConfig config;
  agree(invocation.world.control(), [&] {
    arguments = parse_arguments(invocation, command, options, values, 2, 1000);
    part = &part_named(arguments.words[0]);
    if (!part->for_mpirun && invocation.world.size() > 1) throw UsageError(fmt::format("sweep {} is one process: call it without mpirun", part->name));
    if (part->words[0] == '\0' && arguments.words.size() + arguments.overrides.size() > 2) {
      const std::string& extra = arguments.overrides.empty() ? arguments.words[2] : arguments.overrides[0];
      throw UsageError(fmt::format("sweep {} FILE takes nothing more, found '{}': a sweep is what its file says", part->name, extra));
    }
    config = load_sweep(arguments.words[1]);
  });
  const std::vector<std::string> rest(arguments.words.begin() + 2, arguments.words.end());
  return part->run(Call{invocation, arguments.words[1], rest, arguments.overrides, values, config});
}

}  // namespace tugline
