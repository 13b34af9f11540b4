// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "tugline/core/clock.hpp"
#include "tugline/parallel/communicator.hpp"

namespace tugline {

/// `inner` in debug mode. Before each collective all ranks tell each other what they call and from where, on a duplicate of `inner`
/// that nobody else uses, so that calls which differ still meet. If number, operation, type, count or root differ, all ranks throw
/// the same AgreedError (ExitCode::disagree), with both calls and call sites, where the collective would hang or give wrong sums. Later
/// collectives throw it again. Equal calls from different places are legal; the message tells since when the places have differed.
///
/// Here start_ calls return once all ranks have made them. Point-to-point is passed on as it is. What split() and duplicate()
/// make is checked too. Ranks that wait for each other on *different* communicators cannot be told apart from slow ones: after a
/// minute each rank logs where it waits. Collective. One rank has nothing to compare: `inner` itself comes back.
std::unique_ptr<Communicator> checked(std::unique_ptr<Communicator> inner, const Clock& clock = Clock::steady());

}  // namespace tugline
