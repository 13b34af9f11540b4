// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/balance/make_share_rule.hpp"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/cpu.hpp"
#include "tugline/parallel/balance/adaptive_shares.hpp"
#include "tugline/parallel/balance/fixed_shares.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

std::string own_cores(World& world) {
  const std::string model = cpu_model();
  const int cores = default_threads(world);
  return fmt::format("{} core{} of {} per rank", cores, cores == 1 ? "" : "s", model.empty() ? "a processor" : model);
}

/// Empty: all ranks compute on the same.
std::string how_ranks_differ(World& world, const std::string& device) {
  const std::string cores = own_cores(world);   // collective
  const auto all = world.control().all_gather(device.empty() ? cores : device);
  const auto other = std::find_if(all.begin(), all.end(), [&](const std::string& one) { return one != all.front(); });
  if (other == all.end()) return {};
  const auto rank = static_cast<std::size_t>(other - all.begin());
  return fmt::format("rank {} on {} has {}, rank 0 on {} has {}", rank, world.hosts()[rank], *other, world.hosts()[0], all.front());
}

[[noreturn]] void refuse(const std::string& what) { throw AgreedError(ExitCode::config, "parallel.balance." + what); }

std::int64_t unit_of(const RunConfig& config) { return config.parallel.balance.unit == "micro_batch" ? config.train.micro_batch : 1; }

std::vector<double> weights_of(const BalanceConfig& balance, const World& world) {
  if (!balance.weights.empty()) {
    if (std::ssize(balance.weights) != world.size()) {
      refuse(fmt::format("weights: there are {} of them and {} ranks; give one per rank", balance.weights.size(), world.size()));
    }
    return balance.weights;
  }
  std::vector<double> weights;   // validate() has seen that they are numbers
  for (const std::string& host : world.hosts()) {
    const auto found = balance.host_weights.find(host);
    if (found == balance.host_weights.end()) {
      refuse(fmt::format("host_weights: there is none for host {}, where ranks run; add it", host));
    }
    std::from_chars(found->second.data(), found->second.data() + found->second.size(), weights.emplace_back());
  }
  return weights;
}

/// Sync batch norm adds up over all ranks in each pass, so that each must make one.
std::int64_t least_share(const RunConfig& config) { return config.model.batch_norm == "sync" ? 1 : 0; }

std::vector<std::int64_t> cut(const RunConfig& config, const std::vector<double>& weights) {
  const std::int64_t batch = config.data.batch;
  const std::int64_t unit = unit_of(config);
  if (std::all_of(weights.begin(), weights.end(), [](double weight) { return weight == 0; })) refuse("weights: all are 0; somebody has to do the work");
  return units_to_samples(cut_by_weight((batch + unit - 1) / unit, weights, {least_share(config)}), unit, batch);
}

void require_fitting(const RecordedShares& recorded, const RunConfig& config, const World& world) {
  const std::string& folder = config.parallel.balance.replay;
  if (recorded.by_step.count(0) == 0) refuse(fmt::format("replay: {} has recorded no shares for its first step", folder));
  for (const auto& [step, shares] : recorded.by_step) {
    const std::int64_t samples = std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
    const bool too_small = std::any_of(shares.begin(), shares.end(), [&](std::int64_t share) { return share < least_share(config); });
    if (std::ssize(shares) == world.size() && samples == config.data.batch && !too_small) continue;
    refuse(fmt::format("replay: from step {} on {} cut {} samples for {} ranks ({}), and here data.batch is {} for {} ranks{}", step + 1, folder,
                       samples, shares.size(), fmt::join(shares, " | "), config.data.batch, world.size(),
                       too_small ? ", each with a sample in every step" : ""));
  }
}

AdaptiveOptions adaptive_options(const RunConfig& config, const World& world, std::int64_t least) {
  const BalanceConfig& balance = config.parallel.balance;
  AdaptiveOptions options;
  options.global_batch = config.data.batch;
  options.unit = unit_of(config);
  options.bounds.least = std::max(balance.min_share, least);
  if (balance.max_share > 0) options.bounds.most = balance.max_share;
  options.dead_band = balance.dead_band;
  // In whole units, as shares are.
  const std::int64_t ranks = world.size(), units = (options.global_batch + options.unit - 1) / options.unit;
  const std::string of_units = options.unit == 1 ? "" : fmt::format(" in micro-batches of {}", options.unit);
  if (balance.min_share > 1 && (balance.min_share + options.unit - 1) / options.unit > units / ranks) {
    refuse(fmt::format("min_share: {} samples for each of {} ranks are more than data.batch {}{}; give {} or less", balance.min_share, ranks,
                       config.data.batch, of_units, units / ranks * options.unit));
  }
  if (balance.max_share > 0 && balance.max_share / options.unit < (units + ranks - 1) / ranks) {
    refuse(fmt::format("max_share: {} samples for each of {} ranks are fewer than data.batch {}{}; give {} or more", balance.max_share, ranks,
                       config.data.batch, of_units, (units + ranks - 1) / ranks * options.unit));
  }
  if (options.unit > 1 && units < ranks) {
    refuse(fmt::format("unit: data.batch {} is {} micro-batches of {} for {} ranks; some would have nothing to do", config.data.batch, units,
                       options.unit, ranks));
  }
  return options;
}

}  // namespace

ShareChoice choose_share_rule(const RunConfig& config, World& world, std::int64_t least, const RecordedShares& recorded,
                              const std::string& device) {
  const BalanceConfig& balance = config.parallel.balance;
  const std::int64_t unit = unit_of(config);
  const auto fixed = [&](std::vector<std::int64_t> shares) {
    return std::make_shared<FixedShares>(std::map<std::int64_t, std::vector<std::int64_t>>{{0, std::move(shares)}}, config.data.batch, unit);
  };
  const auto adaptive = [&] { return std::make_shared<AdaptiveShares>(world.size(), adaptive_options(config, world, least)); };
  if (config.parallel.strategy == "async") return {nullptr, "none: pieces go to who is free", unit};
  if (balance.mode == "fixed") return {fixed(cut(config, weights_of(balance, world))), "fixed weights", unit};
  if (balance.mode == "main_light") {
    std::vector<double> weights(static_cast<std::size_t>(world.size()), 1);
    if (world.size() > 1) weights[0] = balance.main_fraction;
    return {fixed(cut(config, weights)), fmt::format("rank 0 takes {} of another's share", balance.main_fraction), unit};
  }
  if (balance.mode == "replay") {
    require_fitting(recorded, config, world);
    return {std::make_shared<FixedShares>(recorded.by_step, config.data.batch, recorded.unit), "as recorded in " + balance.replay, recorded.unit};
  }
  if (world.size() == 1 || config.parallel.shards > 0) return {nullptr, "equal"};
  if (balance.mode == "adaptive") return {adaptive(), "adaptive", unit};
  const bool records = config.train.cuda_graphs && config.train.device != "cpu";   // each shape of batch
  if (balance.mode != "auto" || records) return {nullptr, "equal"};
  const std::string difference = how_ranks_differ(world, device);
  if (difference.empty()) return {nullptr, "equal"};
  return {adaptive(), "adaptive, since ranks differ: " + difference, unit};
}

}  // namespace tugline
