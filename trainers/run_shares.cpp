// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run_shares.hpp"

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/log.hpp"
#include "tugline/core/metrics/sink.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/run/recorded_shares.hpp"
#include "tugline/trainers/run/run_directory.hpp"

namespace tugline {
namespace json = boost::json;

ShareChoice choose_run_shares(const RunConfig& config, World& world, const std::string& saved) {
  RecordedShares recorded;
  const std::string& folder = config.parallel.balance.replay;
  if (!folder.empty()) agree(world.control(), [&] { recorded = read_recorded_shares(RunPaths(folder).metrics()); });
  ShareChoice choice = choose_share_rule(config, world, recorded);
  if (!choice.rule || saved.empty()) return choice;
  agree(world.control(), [&] {
    json::value state;
    try {
      state = json::parse(saved);
      if (state.at("hosts") != json::value_from(world.hosts())) return;
      choice.rule->restore(json::value_to<std::string>(state.at("rule")));
    } catch (const boost::system::system_error& error) {
      throw CheckpointError(fmt::format("/meta/shares of the checkpoint cannot be read: {}", error.what()));
    }
    choice.reason += ", as the checkpoint left it";
  });
  return choice;
}

std::string save_shares(const ShareRule& rule, const World& world) {
  const std::string state = rule.state();
  return state.empty() ? state : json::serialize(json::object{{"hosts", json::value_from(world.hosts())}, {"rule", state}});
}

void log_shares(RunLog& log, std::int64_t step, std::span<const std::int64_t> shares, const std::string& reason) {
  log.event("balance", {{"from_step", step}, {"shares", json::array(shares.begin(), shares.end())}, {"reason", reason}});
  constexpr std::size_t kShown = 16;
  const auto shown = shares.first(std::min(shares.size(), kShown));
  log::info("shares {}{} from step {}: {}", fmt::join(shown, " | "), shares.size() > kShown ? " ..." : "", step, reason);
}

}  // namespace tugline
