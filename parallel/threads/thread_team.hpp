// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "tugline/parallel/communicator.hpp"

namespace tugline {

/// One rank that talks to nobody.
std::unique_ptr<Communicator> solo_communicator();

/// Runs `body` on `ranks` threads of this process, each with its communicator, and joins them. The first exception is rethrown;
/// the other ranks' pending calls then throw CommError instead of waiting for ever.
void run_thread_team(int ranks, const std::function<void(std::unique_ptr<Communicator>)>& body);

}  // namespace tugline
