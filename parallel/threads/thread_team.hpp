// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "tugline/parallel/communicator.hpp"

namespace tugline {

/// One rank that talks to nobody but itself.
std::unique_ptr<Communicator> solo_communicator();

/// Runs `body` on `ranks` threads of this process, each with its communicator, and joins them. The first exception is rethrown;
/// the other ranks' pending and later calls then throw CommError instead of waiting for ever. So do calls that wait for a rank
/// whose `body` has returned, and collectives that do not match. Sums are made in rank order. Sends are buffered.
void run_thread_team(int ranks, const std::function<void(std::unique_ptr<Communicator>)>& body);

}  // namespace tugline
