// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/crew.hpp"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/cpu.hpp"
#include "tugline/core/log.hpp"
#include "tugline/core/metrics/figure_text.hpp"
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

double now() { return Clock::steady().seconds(); }

/// Starts workers, hands signals on, and replaces those that die.
class Foreman {
 public:
  Foreman(SweepFolder& folder, const std::string& file, const Crew& size, const CrewTalk& talk)
      : folder_(folder), news_(folder), talk_(talk), reads_(folder.sweep().run.lease_seconds) {
    for (int worker = 0; worker < size.workers; ++worker) places_.emplace_back().command = worker_command(folder.sweep(), file, worker, size);
  }

  ExitCode run() {
    while (std::any_of(places_.begin(), places_.end(), [](const Place& place) { return !place.left; })) {
      for (Place& place : places_) look_after(place);
      if (const auto number = inbox_.next(0.5)) hand_on(*number);
      if (asked_ && now() > deadline_) {
        for (Place& place : places_) leave(place);
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
    double start_at = 0;
    int replaced = 0;   // since a trial last ended
    bool left = false;   // for good
    ExitCode end = ExitCode::done;
  };

  static void leave(Place& place) {
    place.tree.reset();
    place.left = true;
  }

  void look_after(Place& place) {
    if (place.left) return;
    if (place.tree == nullptr) {
      if (asked_) leave(place);
      else if (now() >= place.start_at) place.tree = std::make_unique<ProcessTree>(place.command);
      return;
    }
    const auto code = place.tree->exit_code();
    if (!code) return;
    place.end = static_cast<ExitCode>(*code);
    place.tree.reset();
    const bool wanted = asked_ || place.end == ExitCode::done || place.end == ExitCode::run_again || place.end == ExitCode::config;
    if (wanted) return leave(place);
    if (++place.replaced > kMaxReplacements) {
      log::warn("a worker ended with {}, like the {} before it; its place stays empty", describe_exit(*code), kMaxReplacements);
      return leave(place);
    }
    const double pause = std::min(kMostPauseSeconds, 0.5 * static_cast<double>(1 << place.replaced));
    place.start_at = now() + pause;
    log::warn("a worker ended with {}; another takes its place in {:g} s", describe_exit(*code), pause);
  }

  void hand_on(int number) {
    const bool at_once = asked_ && number == SIGINT;
    if (!std::exchange(asked_, true)) deadline_ = now() + kGraceSeconds;
    for (Place& place : places_) {
      if (place.tree != nullptr) at_once ? static_cast<void>(place.tree->kill()) : place.tree->signal(SIGTERM);
    }
    if (!at_once) talk_.say("stopping: trials that run save first; the same command goes on");
  }

  void tell() {
    const auto lines = news_.lines();
    if (!lines.empty()) {
      for (Place& place : places_) place.replaced = 0;
    }
    for (const std::string& line : lines) talk_.say(line);
    if (talk_.draw) talk_.draw(fmt::format("{}  {}", progress_text(folder_), duration_text(now() - begun_)));
  }

  SweepFolder& folder_;
  NewEnds news_;
  const CrewTalk& talk_;
  Patience reads_;   // of the folder
  SignalInbox inbox_;
  std::vector<Place> places_;
  bool asked_ = false;
  double deadline_ = 0;
  const double begun_ = now();
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

ExitCode run_crew(const SweepConfig& sweep, const std::string& file, const Crew& size, const CrewTalk& talk) {
  adopt_orphans();
  forget_launcher();
  SweepFolder folder(sweep);
  folder.claim();
  return Foreman(folder, file, size, talk).run();
}

}  // namespace tugline::sweep
