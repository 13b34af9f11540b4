// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tugline/parallel/balance/share_rule.hpp"

namespace tugline {

struct RunConfig;
class World;

/// Shares that a run used: from which step (counted from 0) each cut, and in which unit ragged batches were cut.
struct RecordedShares {
  std::map<std::int64_t, std::vector<std::int64_t>> by_step;
  std::int64_t unit = 1;
};

/// What parallel.balance asks for, and a sentence that says so. No rule: equal shares, as with one rank or parallel.shards.
struct ShareChoice {
  std::shared_ptr<ShareRule> rule;
  std::string reason;
  std::int64_t unit = 1;   ///< samples that stay together
};

/// Collective. `least`: samples that an adaptive share has at least beside parallel.balance.min_share. `recorded`: for mode replay. `device`: what
/// this rank computes on, in words, for mode auto; empty: its cores. Throws AgreedError (ExitCode::config) when weights, hosts, bounds or recorded
/// shares do not fit these ranks and data.batch.
ShareChoice choose_share_rule(const RunConfig& config, World& world, std::int64_t least, const RecordedShares& recorded = {},
                              const std::string& device = "");

}  // namespace tugline
