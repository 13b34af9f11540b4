// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tugline {

/// A command and whatever it starts on this host: a session of its own, so that all of it can be found and ended, and a Ctrl-C in the
/// terminal reaches its supervisor alone. It ends with the thread that made it, however that ends. Any number at a time; one thread each.
class ProcessTree {
 public:
  /// `environment` is added to this process's own. Stdin is empty; stdout and stderr are this process's, or one file for both.
  /// Throws IoError when it cannot be started.
  explicit ProcessTree(const std::vector<std::string>& command, const std::map<std::string, std::string>& environment = {},
                       const std::string& output_file = "");
  /// Kills what is left.
  ~ProcessTree();
  ProcessTree(const ProcessTree&) = delete;
  ProcessTree& operator=(const ProcessTree&) = delete;

  int pid() const { return pid_; }
  /// How the command itself ended: its exit code, or 128 plus the signal's number; nullopt while it runs. Never blocks.
  std::optional<int> exit_code();
  /// For half a minute, by `now` of the calls (seconds, any steady clock), the command has not noticed that a process which it started has
  /// ended: Open MPI's mpirun may lock up while it ends itself (a mutex in PMIx_server_finalize), and would never return. Not while it is stopped.
  bool is_stuck(double now);
  /// To the command alone.
  void signal(int number) noexcept;
  /// SIGKILL to everything, until nothing is left or half a minute has passed: a process that waits for a dead disk cannot be killed. Returns
  /// how many there were.
  int kill() noexcept;

 private:
  int pid_ = -1;
  std::optional<int> exit_code_;
  int unnoticed_ = 0;           // a child of the command that is dead ...
  double unnoticed_since_ = 0;  // ... at least so long
  bool gone_ = false;   // with all that it started: its number may be another's by now
};

/// Orphans of what this process starts become its own children, whom kill() then buries, instead of zombies of a container's first process.
void adopt_orphans() noexcept;

/// This program's file, to start it again. Where a newer one has taken its place since, that one.
std::string own_program();

/// "exit code 75 (stopped with a checkpoint)", "SIGKILL".
std::string describe_exit(int exit_code);

}  // namespace tugline
