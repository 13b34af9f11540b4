// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run_shares.hpp"

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/gpu_driver.hpp"
#include "tugline/core/log.hpp"
#include "tugline/core/metrics/sink.hpp"
#include "tugline/core/models/batch_norm.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/learner.hpp"
#include "tugline/trainers/run/recorded_shares.hpp"
#include "tugline/trainers/run/run_directory.hpp"

namespace tugline {
namespace json = boost::json;

namespace {

/// Empty for a CPU.
std::string gpu_text(c10::Device device) {
  if (!device.is_cuda()) return {};
  const auto gpus = gpu_driver().gpus;
  const auto index = static_cast<std::size_t>(device.index());
  return index < gpus.size() ? fmt::format("{} of {} GiB", gpus[index].name, gpus[index].memory_bytes >> 30) : device.str();
}

}  // namespace

RecordedShares read_run_shares(const RunConfig& config, World& world) {
  RecordedShares recorded;
  const std::string& folder = config.parallel.balance.replay;
  if (folder.empty()) return recorded;
  agree(world.control(), [&] {
    if (world.rank() != 0) return;
    recorded = read_recorded_shares(RunPaths(folder).metrics());
  });
  json::array cuts;
  for (const auto& [step, shares] : recorded.by_step) cuts.push_back({step, json::value_from(shares)});
  const std::string text = world.control().broadcast(json::serialize(json::array{recorded.unit, std::move(cuts)}), 0);
  const json::value told = json::parse(text);
  recorded.unit = told.at(0).as_int64();
  for (const json::value& cut : told.at(1).as_array()) recorded.by_step[cut.at(0).as_int64()] = json::value_to<std::vector<std::int64_t>>(cut.at(1));
  return recorded;
}

ShareChoice choose_run_shares(RunConfig config, std::int64_t batch, World& world, Learner& learner, const RecordedShares& recorded,
                              const std::string& saved) {
  config.data.batch = batch;
  // Statistics of one sample are none.
  const std::int64_t least = has_batch_norm(learner.model()) && !learner.sync_batch_norm() ? 2 : 1;
  ShareChoice choice = choose_share_rule(config, world, least, recorded, gpu_text(learner.device()));
  if (!choice.rule || saved.empty()) return choice;
  agree(world.control(), [&] {
    try {
      const json::value state = json::parse(saved);
      if (state.at("hosts") != json::value_from(world.hosts())) return;
      if (choice.rule->restore(json::value_to<std::string>(state.at("rule")))) choice.reason += ", as the checkpoint left it";
    } catch (const CheckpointError&) {
      throw;
    } catch (const std::exception& error) {
      throw CheckpointError(fmt::format("/meta/shares of the checkpoint cannot be read: {}", error.what()));
    }
  });
  return choice;
}

std::string save_shares(const ShareRule& rule, const World& world) {
  const std::string state = rule.state();
  return state.empty() ? state : json::serialize(json::object{{"hosts", json::value_from(world.hosts())}, {"rule", state}});
}

void log_shares(RunLog& log, std::int64_t step, std::span<const std::int64_t> shares, std::int64_t unit, const std::string& reason) {
  log.event("balance", {{"from_step", step}, {"shares", json::array(shares.begin(), shares.end())}, {"unit", unit}, {"reason", reason}});
  if (reason == "equal") return;   // nothing to tell a person
  constexpr std::size_t kShown = 16;
  const auto shown = shares.first(std::min(shares.size(), kShown));
  log::info("shares {}{} from step {}: {}", fmt::join(shown, " | "), shares.size() > kShown ? " ..." : "", step, reason);
}

}  // namespace tugline
