// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/console_mode.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <string_view>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;

constexpr std::array kLaunchers{"mpirun", "orterun", "prterun", "mpiexec", "srun"};
// Set in a rank by its launcher; without one of its processes in sight (another host) they are the only sign.
constexpr std::array kRankVariables{"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
// The launcher was told to prefix lines or to write them to files: a redrawn line becomes a mess there.
constexpr std::array kLabelVariables{"OMPI_MCA_orte_tag_output", "OMPI_MCA_orte_timestamp_output",
                                     "OMPI_MCA_orte_xml_output", "OMPI_MCA_orte_output_filename", "SLURM_LABELIO"};
constexpr std::array kOtherVariables{"TUGLINE_PROGRESS", "CI", "NO_COLOR", "TERM", "COLUMNS"};

std::string value_of(const ConsoleFacts& facts, const char* name) {
  const auto found = facts.environment.find(name);
  return found == facts.environment.end() ? "" : found->second;
}

template <class Names>
const char* first_set(const ConsoleFacts& facts, const Names& names) {
  const auto found =
      std::find_if(names.begin(), names.end(), [&](const char* name) { return !value_of(facts, name).empty(); });
  return found == names.end() ? nullptr : *found;
}

std::optional<ConsoleMode> mode_from(const std::string& word, const char* source) {
  if (word == "live") return ConsoleMode::live;
  if (word == "plain") return ConsoleMode::plain;
  if (word.empty() || word == "auto") return std::nullopt;
  throw UsageError(fmt::format("{}: expected auto, live or plain, found '{}'", source, word));
}

bool names_terminal(const std::string& path) { return path.starts_with("/dev/pts/") || path.starts_with("/dev/tty"); }

int columns_of(int fd) {
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

int columns_of(const fs::path& terminal) {
  const int fd = ::open(terminal.c_str(), O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return 0;
  const int columns = columns_of(fd);
  ::close(fd);
  return columns;
}

struct Process {
  std::string name;
  int parent = 0;
};

/// From "pid (name) state parent ...", where the name may hold blanks and brackets.
Process read_process(const fs::path& proc, int pid) {
  std::ifstream in(proc / std::to_string(pid) / "stat");
  std::string line;
  std::getline(in, line);
  const auto open = line.find('('), close = line.rfind(')');
  if (open == line.npos || close == line.npos || close < open) return {};
  Process process{line.substr(open + 1, close - open - 1)};
  if (close + 4 < line.size()) process.parent = std::atoi(line.c_str() + close + 4);
  return process;
}

}  // namespace

ConsoleDecision decide_console(const ConsoleFacts& facts) {
  if (const auto mode = mode_from(facts.option, "--progress")) return {*mode, "--progress says so"};
  if (const auto mode = mode_from(value_of(facts, "TUGLINE_PROGRESS"), "TUGLINE_PROGRESS"))
    return {*mode, "TUGLINE_PROGRESS says so"};
  constexpr std::array kPlainVariables{"CI", "NO_COLOR"};
  if (const char* name = first_set(facts, kPlainVariables)) return {ConsoleMode::plain, fmt::format("{} is set", name)};
  if (value_of(facts, "TERM") == "dumb") return {ConsoleMode::plain, "TERM is dumb"};
  if (const char* name = first_set(facts, kLabelVariables)) {
    return {ConsoleMode::plain, fmt::format("the launcher labels or redirects lines ({})", name)};
  }
  if (!facts.launcher.empty()) {
    if (facts.launcher_stdout_is_tty)
      return {ConsoleMode::live, fmt::format("the stdout of {} is a terminal", facts.launcher)};
    return {ConsoleMode::plain, fmt::format("the stdout of {} is no terminal", facts.launcher)};
  }
  if (first_set(facts, kRankVariables)) return {ConsoleMode::plain, "the launcher's terminal cannot be seen from here"};
  if (!facts.stdout_is_tty) return {ConsoleMode::plain, "stdout is no terminal"};
  return {ConsoleMode::live, "stdout is a terminal"};
}

ConsoleFacts gather_console_facts(const std::string& option) {
  ConsoleFacts facts{option};
  const auto take = [&](const auto& names) {
    for (const char* name : names) {
      if (const char* value = std::getenv(name)) facts.environment[name] = value;
    }
  };
  take(kRankVariables), take(kLabelVariables), take(kOtherVariables);
  facts.stdout_is_tty = ::isatty(STDOUT_FILENO) == 1;
  facts.columns = columns_of(STDOUT_FILENO);
  if (const auto launcher = find_launcher(::getpid())) {
    facts.launcher = launcher->name;
    facts.launcher_stdout_is_tty = names_terminal(launcher->stdout_target.string());
    facts.columns = facts.launcher_stdout_is_tty ? columns_of(launcher->stdout_target) : 0;
  }
  if (const std::string columns = value_of(facts, "COLUMNS"); facts.columns <= 0)
    facts.columns = std::atoi(columns.c_str());
  return facts;
}

std::optional<Launcher> find_launcher(int pid, const fs::path& proc) {
  constexpr int kMostParents = 64;  // a table read while processes come and go could have a cycle
  for (int i = 0; i < kMostParents && pid > 1; ++i) {
    const Process process = read_process(proc, pid);
    const auto is_launcher = [&](std::string_view name) {  // also mpirun.openmpi, mpiexec.hydra
      return process.name == name || process.name.starts_with(std::string(name) + ".");
    };
    if (std::any_of(kLaunchers.begin(), kLaunchers.end(), is_launcher)) {
      std::error_code ignored;
      return Launcher{pid, process.name, fs::read_symlink(proc / std::to_string(pid) / "fd" / "1", ignored)};
    }
    pid = process.parent;
  }
  return std::nullopt;
}

}  // namespace tugline
