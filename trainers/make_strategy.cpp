// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/make_strategy.hpp"

#include <fmt/format.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/parallel/async/async_strategy.hpp"
#include "tugline/parallel/local/local_strategy.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/learner.hpp"

namespace tugline {
namespace {

/// The options that all kinds have.
template <typename Options>
Options common_options(const StrategyParts& parts) {
  Options options;
  options.clip_norm = parts.config.optim.clip_norm;
  options.clip_value = parts.config.optim.clip_value;
  options.first_step = parts.first_step;
  options.node = parts.learner.node();
  return options;
}

/// And those that cut the global batch into shares, and add up what ranks have.
template <typename Options>
Options shared_options(const StrategyParts& parts) {
  auto options = common_options<Options>(parts);
  options.exchange = parts.learner.exchange();
  options.shares = parts.shares;
  options.spikes = parts.spikes;
  return options;
}

std::unique_ptr<Strategy> make_async_strategy(const StrategyParts& parts, const Schedule& schedule) {
  const AsyncConfig& async = parts.config.parallel.async;
  auto options = common_options<AsyncOptions>(parts);
  options.staleness = async.staleness;
  options.pieces_per_step = async.pieces;
  options.local_steps = async.local_steps;
  options.servers = async.servers;
  options.staleness_power = async.staleness_power;
  options.hosts = parts.world.hosts();
  options.meet_after = parts.meet_after;
  options.serving = parts.serving;
  options.record = parts.record;
  options.repeat = parts.repeat;
  Learner& learner = parts.learner;
  if (&learner.exchanged() != &learner.parameters()) options.model = &learner.parameters();
  return std::make_unique<AsyncStrategy>(parts.world.communicator(), parts.world.control(), learner.exchanged(), learner.optimizer(),
                                         learner.common(), schedule, parts.plan, std::move(options), parts.clock);
}

}  // namespace

void require_async_fits(const RunConfig& config, const World& world) {
  const AsyncConfig& async = config.parallel.async;
  const int workers = async_workers(world.size(), world.num_hosts(), async.servers);
  if (async.pieces > 0 || async.local_steps == 1 || workers * async.local_steps <= config.data.batch) return;   // validate() knows the rest
  throw AgreedError(ExitCode::config, fmt::format("parallel.async.local_steps {}: data.batch {}, a piece for each of {} ranks, is too small for so many parts of a piece",
                                                  async.local_steps, config.data.batch, workers));
}

std::unique_ptr<Strategy> make_strategy(const StrategyParts& parts) {
  World& world = parts.world;
  Learner& learner = parts.learner;
  const Schedule schedule(parts.config.optim, {parts.plan.total_steps, parts.plan.steps_per_epoch(), parts.config.data.batch});
  if (parts.config.parallel.strategy == "async") return make_async_strategy(parts, schedule);
  if (parts.outer == nullptr) {
    auto options = shared_options<SyncOptions>(parts);
    options.shards = learner.shards();
    options.read_every = parts.config.train.read_every;
    options.meet_after = parts.meet_after;
    options.wait_for_nonfinite = parts.config.train.nonfinite == "stop";
    return std::make_unique<SyncStrategy>(learner.gradients(), world.control(), learner.parameters(), learner.optimizer(), schedule, parts.plan,
                                          std::move(options), parts.clock);
  }
  const LocalConfig& local = parts.config.parallel.local;
  auto options = shared_options<LocalOptions>(parts);
  options.steps = local.steps;
  options.sync_steps = local.sync_steps;
  options.outer_lr = local.outer_lr;
  options.average_state = local.state == "average";
  options.settle_skipped = parts.config.train.nonfinite == "skip";
  return std::make_unique<LocalStrategy>(learner.gradients(), world.control(), learner.parameters(), learner.optimizer(), *parts.outer,
                                         schedule, parts.plan, std::move(options), parts.clock);
}

std::unique_ptr<Optimizer> outer_optimizer_of(const ParallelConfig& config, Arena& arena) {
  return config.strategy == "local" ? make_outer_optimizer(config.local.outer_momentum, arena) : nullptr;
}

}  // namespace tugline
