// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/balance/make_share_rule.hpp"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/cpu.hpp"
#include "tugline/parallel/balance/adaptive_shares.hpp"
#include "tugline/parallel/balance/fixed_shares.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

/// Empty: all ranks have the same kind of processor, and as many cores of it.
std::string how_ranks_differ(World& world) {
  const CpuBudget mine = cpu_budget();
  const auto all = world.control().all_gather(fmt::format("{}, {} usable of {} cores for {} ranks", cpu_model(), mine.usable, mine.online_cores,
                                                          world.local_size()));
  const auto other = std::find_if(all.begin(), all.end(), [&](const std::string& one) { return one != all.front(); });
  if (other == all.end()) return {};
  const auto rank = static_cast<std::size_t>(other - all.begin());
  return fmt::format("rank {} on {} has {}, rank 0 on {} has {}", rank, world.hosts()[rank], *other, world.hosts()[0], all.front());
}

[[noreturn]] void refuse(const std::string& what) { throw AgreedError(ExitCode::config, "parallel.balance." + what); }

std::vector<double> weights_of(const BalanceConfig& balance, const World& world) {
  if (!balance.weights.empty()) {
    if (std::ssize(balance.weights) != world.size()) {
      refuse(fmt::format("weights: there are {} of them and {} ranks; give one per rank", balance.weights.size(), world.size()));
    }
    return balance.weights;
  }
  std::vector<double> weights;
  for (const std::string& host : world.hosts()) {
    const auto found = balance.host_weights.find(host);
    if (found == balance.host_weights.end()) {
      refuse(fmt::format("host_weights: there is none for host {}, where ranks run; add it", host));
    }
    weights.push_back(std::stod(found->second));
  }
  return weights;
}

/// Sync batch norm adds up over all ranks in each pass, so that each must make one.
std::int64_t least_share(const RunConfig& config) { return config.model.batch_norm == "sync" ? 1 : 0; }

std::vector<std::int64_t> cut(const RunConfig& config, const std::vector<double>& weights) {
  const std::int64_t batch = config.data.batch;
  const std::int64_t unit = config.parallel.balance.unit == "micro_batch" ? config.train.micro_batch : 1;
  return units_to_samples(cut_by_weight((batch + unit - 1) / unit, weights, {least_share(config)}), unit, batch);
}

void require_fitting(const RecordedShares& recorded, const RunConfig& config, const World& world) {
  const std::string& folder = config.parallel.balance.replay;
  if (recorded.count(0) == 0) refuse(fmt::format("replay: {} has recorded no shares for its first step", folder));
  for (const auto& [step, shares] : recorded) {
    const std::int64_t samples = std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
    const bool too_small = std::any_of(shares.begin(), shares.end(), [&](std::int64_t share) { return share < least_share(config); });
    if (std::ssize(shares) == world.size() && samples == config.data.batch && !too_small) continue;
    refuse(fmt::format("replay: from step {} on {} has shares {}, which is no cut of {} samples for {} ranks", step + 1, folder,
                       fmt::join(shares, " | "), config.data.batch, world.size()));
  }
}

AdaptiveOptions adaptive_options(const RunConfig& config, const World& world) {
  const BalanceConfig& balance = config.parallel.balance;
  AdaptiveOptions options;
  options.global_batch = config.data.batch;
  options.unit = balance.unit == "micro_batch" ? config.train.micro_batch : 1;
  options.bounds.least = balance.min_share;
  if (balance.max_share > 0) options.bounds.most = balance.max_share;
  options.dead_band = balance.dead_band;
  if (options.bounds.least * world.size() > options.global_batch && balance.min_share > 1) {
    refuse(fmt::format("min_share: {} samples for each of {} ranks are more than data.batch {}", balance.min_share, world.size(), config.data.batch));
  }
  if (balance.max_share > 0 && balance.max_share * world.size() < options.global_batch) {
    refuse(fmt::format("max_share: {} samples for each of {} ranks are fewer than data.batch {}", balance.max_share, world.size(), config.data.batch));
  }
  return options;
}

}  // namespace

ShareChoice choose_share_rule(const RunConfig& config, World& world, const RecordedShares& recorded) {
  const BalanceConfig& balance = config.parallel.balance;
  const auto fixed = [&](RecordedShares by_step) {
    return std::make_shared<FixedShares>(std::move(by_step), config.data.batch, balance.unit == "micro_batch" ? config.train.micro_batch : 1);
  };
  const auto adaptive = [&] { return std::make_shared<AdaptiveShares>(world.size(), adaptive_options(config, world)); };
  if (balance.mode == "fixed") return {fixed({{0, cut(config, weights_of(balance, world))}}), "fixed weights"};
  if (balance.mode == "main_light") {
    std::vector<double> weights(static_cast<std::size_t>(world.size()), 1);
    if (world.size() > 1) weights[0] = balance.main_fraction;
    return {fixed({{0, cut(config, weights)}}), fmt::format("rank 0 takes {} of another's share", balance.main_fraction)};
  }
  if (balance.mode == "replay") {
    require_fitting(recorded, config, world);
    return {fixed(recorded), "as recorded in " + balance.replay};
  }
  if (world.size() == 1 || config.parallel.shards > 0) return {};
  if (balance.mode == "adaptive") return {adaptive(), "adaptive"};
  if (balance.mode != "auto") return {};
  const std::string difference = how_ranks_differ(world);
  if (difference.empty()) return {};
  return {adaptive(), "adaptive, since ranks differ: " + difference};
}

}  // namespace tugline
