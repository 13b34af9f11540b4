// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tugline/core/clock.hpp"
#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/sweep_folder.hpp"

namespace tugline::sweep {

/// Workers of one process, and which they are among those of this host.
struct Crew {
  int workers = 1;
  int first = 0, of = 1;
};

/// What a crew says to a person.
struct CrewTalk {
  std::function<void(const std::string&)> say;    ///< a line: a trial has ended; and, where something is drawn, what workers print
  std::function<void(const std::string&)> draw;   ///< in the place of what was drawn before: how it goes. May be empty
};

/// Keeps so many processes at work, each on cores of its own where there are enough, until the sweep is over or a signal asks to stop: the
/// first lets trials save, a second Ctrl-C ends them, a third the workers too. A worker that dies is replaced, later each time until a trial ends.
/// Not for a process with other threads.
/// Returns what the workers do: done, or run_again.
ExitCode run_crew(const SweepConfig& sweep, const std::string& file, const Crew& size, const CrewTalk& talk,
                  const Clock& clock = Clock::steady());

/// What a launcher has told this process about its job, which a trial's own mpirun must not take for its own.
void forget_launcher();

}  // namespace tugline::sweep
