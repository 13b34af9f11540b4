// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace tugline {

/// live: one line that is redrawn in place. plain: a new line every few seconds, fit for files and CI logs.
enum class ConsoleMode { live, plain };

/// All that the decision looks at, so that it can be tested and shown (`tugline doctor`).
struct ConsoleFacts {
  std::string option = "auto";                     ///< --progress: auto, live or plain
  std::map<std::string, std::string> environment;  ///< those of the variables below that are set
  bool stdout_is_tty = false;
  std::string launcher;  ///< "mpirun", "srun", ...; empty: none among the parents of this process
  bool launcher_stdout_is_tty = false;
  int columns = 0;  ///< of the terminal in the end seen; 0: not known
};

struct ConsoleDecision {
  ConsoleMode mode = ConsoleMode::plain;
  std::string reason;  ///< "stdout is no terminal"
};

/// Decides once per run, in this order: --progress; TUGLINE_PROGRESS; CI, NO_COLOR, TERM=dumb and a launcher that labels
/// lines mean plain; then live when the terminal is real. Under a launcher every rank's stdout looks like a terminal, so
/// there the launcher's own stdout counts; where it can't be seen (other host, srun), plain. Throws UsageError on an
/// unknown option.
ConsoleDecision decide_console(const ConsoleFacts& facts);

/// Looks at this process: its environment, its stdout, and the parents that /proc shows.
ConsoleFacts gather_console_facts(const std::string& option = "auto");

/// The nearest parent of `pid` that is an MPI launcher; `proc` is /proc but in tests.
struct Launcher {
  int pid = 0;
  std::string name;
  std::filesystem::path stdout_target;  ///< what its file descriptor 1 is; empty: not readable
};
std::optional<Launcher> find_launcher(int pid, const std::filesystem::path& proc = "/proc");

}  // namespace tugline
