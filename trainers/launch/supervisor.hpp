// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tugline/trainers/launch/hosts.hpp"

namespace tugline {

struct LaunchOptions {
  std::vector<std::string> program;                ///< what each rank runs, and it goes on where `run_dir` stands: tugline train ... --run-dir
  std::vector<std::string> only_the_first_time;    ///< more arguments until the run has begun anew: --fresh
  std::filesystem::path run_dir;
  int ranks = 1;
  int min_ranks = 1;                               ///< go on with as few when hosts are gone
  std::vector<HostSlots> hosts;                    ///< empty: this host, or what the scheduler gave to mpirun
  std::vector<std::string> mpirun{"mpirun"};       ///< and options of its own
  int max_restarts = 3;                            ///< in a row without a newer checkpoint
  std::vector<int> stop_signals;                   ///< ask to save and stop too, beside SIGTERM, SIGUSR1, SIGHUP and SIGINT
  double grace_seconds = 120;                      ///< from the request to stop until everything is killed
  double first_pause_seconds = 1;                  ///< before a restart without progress; each is twice as long as the one before,
  double longest_pause_seconds = 60;               ///< up to this
};

/// Runs attempts under mpirun until one is done, is stopped, fails in a way that a restart does not change (command line, config, data, a
/// check that says no), or `max_restarts` have brought nothing new. Not an MPI process; signals are taken by the calling thread, which must
/// be the only one: SIGTERM, SIGUSR1, SIGHUP and a first Ctrl-C ask all ranks to save and stop; a second Ctrl-C kills them.
///
/// A checkpoint that two attempts have gone on from and failed without a newer one is set aside (renamed to *.set-aside), where there is an
/// older one, which the next attempt takes. Whatever an attempt leaves is killed or deleted when it ends: processes of this host, temporary files, shared memory.
///
/// Returns an exit code: of the last attempt, or ExitCode::run_again when it was asked to stop.
int supervise(const LaunchOptions& options);

}  // namespace tugline
