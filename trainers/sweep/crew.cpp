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
#include "tugline/trainers/launch/process_tree.hpp"
#include "tugline/trainers/launch/signal_inbox.hpp"
#include "tugline/trainers/sweep/report.hpp"

namespace tugline::sweep {
namespace {

namespace fs = std::filesystem;

constexpr double kGraceSeconds = 90;
constexpr int kMaxReplacements = 10;   // a worker that dies again and again has a reason that another would have, too

std::vector<std::string> worker_command(const SweepConfig& sweep, const std::string& file, int worker, const Crew& size) {
  const CpuBudget cpu = cpu_budget();
  const auto each = static_cast<std::size_t>(sweep.run.ranks_per_trial), first = static_cast<std::size_t>(size.first + worker) * each;
  std::vector<std::string> words{fs::read_symlink("/proc/self/exe").string(), "sweep", "work", file};
  if (static_cast<std::size_t>(size.of) * each <= cpu.cores.size()) {
    words.insert(words.end(), {"--cores", core_list(std::span(cpu.cores).subspan(first, each))});
  }
  return words;
}

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

ExitCode run_crew(const SweepConfig& sweep, const std::string& file, const Crew& size, const std::function<void(const std::string&)>& say) {
  adopt_orphans();
  forget_launcher();
  SweepFolder folder(sweep);
  folder.claim();
  SignalInbox inbox;
  std::vector<std::unique_ptr<ProcessTree>> crew;
  std::vector<ExitCode> ends(static_cast<std::size_t>(size.workers), ExitCode::done);
  const auto start = [&](int worker) { return std::make_unique<ProcessTree>(worker_command(sweep, file, worker, size)); };
  for (int worker = 0; worker < size.workers; ++worker) crew.push_back(start(worker));
  NewEnds news(folder);
  int replaced = 0;
  bool asked = false;
  double deadline = 0;
  while (std::any_of(crew.begin(), crew.end(), [](const auto& tree) { return tree != nullptr; })) {
    if (const auto number = inbox.next(0.5)) {
      const bool now = asked && *number == SIGINT;
      if (!std::exchange(asked, true)) deadline = Clock::steady().seconds() + kGraceSeconds;
      for (auto& tree : crew) {
        if (tree != nullptr) now ? static_cast<void>(tree->kill()) : tree->signal(SIGTERM);
      }
      if (!now) say("stopping: trials that run save first; the same command goes on");
    }
    if (asked && Clock::steady().seconds() > deadline) {
      for (auto& tree : crew) tree.reset();
    }
    for (const std::string& line : news.lines()) say(line);
    for (std::size_t worker = 0; worker < crew.size(); ++worker) {
      if (crew[worker] == nullptr || !crew[worker]->exit_code()) continue;
      const int code = *crew[worker]->exit_code();
      ends[worker] = static_cast<ExitCode>(code);
      const bool wanted = asked || code == 0 || code == static_cast<int>(ExitCode::run_again) || code == static_cast<int>(ExitCode::config);
      crew[worker].reset();
      if (wanted || ++replaced > kMaxReplacements) continue;
      log::warn("worker {} ended with {}; another takes its place", worker, describe_exit(code));
      crew[worker] = start(static_cast<int>(worker));
    }
  }
  for (const std::string& line : news.lines()) say(line);
  for (const ExitCode code : ends) {
    if (code != ExitCode::done) return asked ? ExitCode::run_again : code;
  }
  return ExitCode::done;
}

}  // namespace tugline::sweep
