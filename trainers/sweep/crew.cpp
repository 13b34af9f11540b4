// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/crew.hpp"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "tugline/core/cpu.hpp"
#include "tugline/core/log.hpp"
#include "tugline/core/metrics/figure_text.hpp"
#include "tugline/trainers/launch/leftovers.hpp"
#include "tugline/trainers/launch/process_tree.hpp"
#include "tugline/trainers/launch/signal_inbox.hpp"
#include "tugline/trainers/sweep/patience.hpp"
#include "tugline/trainers/sweep/report.hpp"

namespace tugline::sweep {
namespace {

constexpr double kGraceSeconds = 90;
constexpr int kMaxReplacements = 10;   // with no trial that ends meanwhile: who dies again and again has a reason that another would have, too
constexpr double kMostPauseSeconds = 30;

std::vector<std::string> worker_command(const SweepConfig& sweep, const std::string& file, int worker, const Crew& size) {
  const CpuBudget cpu = cpu_budget();
  const auto each = static_cast<std::size_t>(sweep.run.ranks_per_trial), first = static_cast<std::size_t>(size.first + worker) * each;
  std::vector<std::string> words{own_program(), "sweep", "work", file};
  if (static_cast<std::size_t>(size.of) * each <= cpu.cores.size()) {
    words.insert(words.end(), {"--cores", core_list(std::span(cpu.cores).subspan(first, each))});
  }
  return words;
}

/// Starts workers, hands signals on, and replaces those that die.
class Foreman {
 public:
  Foreman(SweepFolder& folder, const std::string& file, const Crew& size, const CrewTalk& talk, const Clock& clock)
      : folder_(folder), news_(folder), talk_(talk), clock_(clock),
        reads_(folder.sweep().run.lease_seconds, Patience::Trust::from_the_start, clock) {
    if (talk.draw) outputs_.emplace();
    for (int worker = 0; worker < size.workers; ++worker) places_.emplace_back().command = worker_command(folder.sweep(), file, worker, size);
  }

  ExitCode run() {
    while (look_after_all()) {
      if (const auto number = inbox_.next(0.5)) hand_on(*number);
      if (at_once_) signal_all(SIGINT);
      if (asked_ && clock_.seconds() > deadline_) {
        for (Place& place : places_) end_by_force(place);
      }
      reads_.try_call([this] { tell(); });
    }
    reads_.try_call([this] { tell(); });
    for (const Place& place : places_) {
      if (place.end != ExitCode::done) return asked_ ? ExitCode::run_again : place.end;
    }
    return ExitCode::done;
  }

 private:
  struct Place {
    std::vector<std::string> command;
    std::unique_ptr<ProcessTree> tree;
    std::ifstream printed;   // by the worker, where something is drawn, which its lines would smear
    std::streamoff said = 0;   // of that
    double start_at = 0;
    int replaced = 0;   // since a trial last ended
    bool left = false;   // for good
    ExitCode end = ExitCode::done;
  };

  static void leave(Place& place) {
    place.tree.reset();
    place.left = true;
  }

  static void end_by_force(Place& place) {
    if (place.tree != nullptr) place.end = ExitCode::run_again;
    leave(place);
  }

  void start(Place& place) {
    const std::string output = outputs_ ? outputs_->path() / std::to_string(started_++) : "";
    place.tree = std::make_unique<ProcessTree>(place.command, std::map<std::string, std::string>(), output);
    place.printed = std::ifstream(output);
    place.said = 0;
  }

  void say_printed(Place& place) {
    place.printed.clear();
    place.printed.seekg(place.said);
    for (std::string line; std::getline(place.printed, line) && !place.printed.eof();) {   // whole lines
      place.said += static_cast<std::streamoff>(line.size()) + 1;
      talk_.say(line);
    }
  }

  /// False: nobody is left to look after.
  bool look_after_all() {
    for (Place& place : places_) look_after(place);
    return std::any_of(places_.begin(), places_.end(), [](const Place& place) { return !place.left; });
  }

  void look_after(Place& place) {
    if (place.left) return;
    if (place.tree == nullptr) {
      if (asked_) leave(place);
      else if (clock_.seconds() >= place.start_at) start(place);
      return;
    }
    const auto code = place.tree->exit_code();
    if (!code) return;
    say_printed(place);
    place.end = static_cast<ExitCode>(*code);
    place.tree.reset();
    const bool wanted = asked_ || place.end == ExitCode::done || place.end == ExitCode::run_again || place.end == ExitCode::config;
    if (wanted) return leave(place);
    if (++place.replaced > kMaxReplacements) {
      log::warn("a worker ended with {}, like the {} before it; its place stays empty", describe_exit(*code), kMaxReplacements);
      return leave(place);
    }
    const double pause = std::min(kMostPauseSeconds, 0.5 * static_cast<double>(1 << place.replaced));
    place.start_at = clock_.seconds() + pause;
    log::warn("a worker ended with {}; another takes its place in {:g} s", describe_exit(*code), pause);
  }

  /// A worker's trial is a session of its own, which the worker's death may not end. So the second Ctrl-C goes to workers, too, again and again
  /// since it may overtake the first; a third kills them.
  void hand_on(int number) {
    const bool at_once = asked_ && number == SIGINT;
    if (!std::exchange(asked_, true)) deadline_ = clock_.seconds() + kGraceSeconds;
    if (at_once && std::exchange(at_once_, true)) deadline_ = 0;
    if (!at_once) signal_all(SIGTERM);
    if (!at_once) talk_.say("stopping: trials that run save first; the same command goes on");
  }

  void signal_all(int number) {
    for (Place& place : places_) {
      if (place.tree != nullptr) place.tree->signal(number);
    }
  }

  void tell() {
    for (Place& place : places_) say_printed(place);
    const auto lines = news_.lines();
    if (!lines.empty()) {
      for (Place& place : places_) place.replaced = 0;
    }
    for (const std::string& line : lines) talk_.say(line);
    if (talk_.draw) talk_.draw(fmt::format("{}  {}", progress_text(folder_), duration_text(clock_.seconds() - begun_)));
  }

  SweepFolder& folder_;
  NewEnds news_;
  const CrewTalk& talk_;
  const Clock& clock_;
  std::optional<SessionFolder> outputs_;   // what workers print, where something is drawn
  int started_ = 0;
  Patience reads_;   // of the folder
  SignalInbox inbox_;
  std::vector<Place> places_;
  bool asked_ = false, at_once_ = false;   // to stop
  double deadline_ = 0;
  const double begun_ = clock_.seconds();
};

}  // namespace

void forget_launcher() {
  std::vector<std::string> names;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const bool allows_root = text.starts_with("OMPI_ALLOW_RUN_AS_ROOT");
    const bool of_a_launcher = text.starts_with("OMPI_") || text.starts_with("PMIX_") || text.starts_with("ORTE_") || text.starts_with("PMI_") ||
                               text.starts_with("PRTE_") || text.starts_with("MPIEXEC_");
    if (of_a_launcher && !allows_root) names.emplace_back(text.substr(0, text.find('=')));
  }
  for (const std::string& name : names) ::unsetenv(name.c_str());
}

ExitCode run_crew(const SweepConfig& sweep, const std::string& file, const Crew& size, const CrewTalk& talk, const Clock& clock) {
  adopt_orphans();
  forget_launcher();
  SweepFolder folder(sweep);
  folder.claim();
  return Foreman(folder, file, size, talk, clock).run();
}

}  // namespace tugline::sweep
