// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "tugline/core/clock.hpp"
#include "tugline/parallel/balance/share_rule.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"

namespace tugline {

class Learner;
class World;
struct ParallelConfig;
struct RecordedUpdates;
struct RunConfig;

/// What a strategy is made of; all must outlive it.
struct StrategyParts {
  World& world;
  const RunConfig& config;
  Learner& learner;
  Optimizer* outer;                      ///< of outer_optimizer_of(); null where there is none
  StepPlan plan;
  std::int64_t first_step;               ///< where a resumed run goes on
  std::shared_ptr<ShareRule> shares;     ///< null: equal ones
  std::shared_ptr<SpikeDetector> spikes; ///< null: nobody looks for any
  const Clock& clock;
  std::function<bool(std::int64_t steps)> meet_after;               ///< see AsyncOptions and SyncOptions
  std::function<bool(bool updated)> serving;                        ///< these are for async alone
  std::function<void(const std::string& line)> record;
  std::shared_ptr<const RecordedUpdates> repeat;
};

/// Throws AgreedError where parallel.async does not fit the ranks.
void require_async_fits(const RunConfig& config, const World& world);

/// parallel.strategy. Collective where ranks share memory.
std::unique_ptr<Strategy> make_strategy(const StrategyParts& parts);

/// What local rounds step with, whose slots are part of the run's state; null for other strategies.
std::unique_ptr<Optimizer> outer_optimizer_of(const ParallelConfig& config, Arena& arena);

}  // namespace tugline
