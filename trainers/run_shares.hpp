// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "tugline/parallel/balance/make_share_rule.hpp"

namespace tugline {

class Learner;
class RunLog;

/// Collective. What parallel.balance.replay names, as rank 0 reads it; nothing where it names nothing. Throws AgreedError.
RecordedShares read_run_shares(const RunConfig& config, World& world);

/// Collective. The rule of parallel.balance for this run, whose full global batches have `batch` samples, as `saved` (from a checkpoint, may
/// be empty) left it; on other hosts or another number of ranks it starts afresh. Throws AgreedError.
ShareChoice choose_run_shares(RunConfig config, std::int64_t batch, World& world, Learner& learner, const RecordedShares& recorded,
                              const std::string& saved = "");

/// What choose_run_shares() goes on from.
std::string save_shares(const ShareRule& rule, const World& world);

/// The event "balance": from `step` (counted from 1) on, a full global batch is cut like this.
void log_shares(RunLog& log, std::int64_t step, std::span<const std::int64_t> shares, std::int64_t unit, const std::string& reason);

}  // namespace tugline
