// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "tugline/parallel/async/piece_record.hpp"

namespace tugline {

class RunPaths;
class World;
struct RunConfig;

/// What parallel.async.replay names, the same on all ranks; null when it names nothing. Collective. Throws AgreedError when it cannot be read.
std::shared_ptr<const RecordedUpdates> read_run_updates(const RunConfig& config, World& world);

/// On rank 0 of an asynchronous run: takes the lines of its record, and appends them to the run's updates.jsonl; null elsewhere. Collective.
/// Throws AgreedError when the file cannot be made.
std::function<void(const std::string& line)> open_update_record(const RunConfig& config, const RunPaths& paths, World& world);

}  // namespace tugline
