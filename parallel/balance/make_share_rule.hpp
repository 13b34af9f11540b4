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

/// Recorded shares: from which step (counted from 0) each cut was used.
using RecordedShares = std::map<std::int64_t, std::vector<std::int64_t>>;

/// What parallel.balance asks for, and a sentence that says so. No rule: equal shares.
struct ShareChoice {
  std::shared_ptr<ShareRule> rule;
  std::string reason;
};

/// Collective. `recorded`: for mode replay. Throws AgreedError (ExitCode::config) when weights, hosts, bounds or recorded shares do not fit
/// these ranks and data.batch.
ShareChoice choose_share_rule(const RunConfig& config, World& world, const RecordedShares& recorded = {});

}  // namespace tugline
