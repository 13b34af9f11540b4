// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/balance/adaptive_shares.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <stdexcept>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

namespace json = boost::json;

constexpr int kWarmUpSteps = 2;   // memory is touched for the first time, code is paged in

std::string change_of(double factor) {
  return factor > 1 ? fmt::format("{:.2f} times as long as before over", factor) : fmt::format("{:.2f} times as fast as before over", 1 / factor);
}

/// Boost.JSON 1.81 does not read back every double that it writes.
std::string exact(double value) { return fmt::format("{}", value); }
double exact(const json::value& text) {
  const json::string& digits = text.as_string();
  double value = 0;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), value);
  if (error != std::errc() || end != digits.end()) throw std::invalid_argument("no number");
  return value;
}

}  // namespace

AdaptiveShares::AdaptiveShares(int ranks, AdaptiveOptions options)
    : options_(options), shares_(equal_shares(options.global_batch, ranks, options.unit)), warm_up_left_(kWarmUpSteps) {
  for (const std::int64_t share : shares_) speeds_.emplace_back(share, share);
}

std::vector<std::int64_t> AdaptiveShares::shares(const Piece& global) const {
  const std::int64_t samples = global.global_size();
  return samples == options_.global_batch ? shares_ : scale_shares(samples, shares_, options_.unit, options_.bounds.least);
}

std::optional<ShareChange> AdaptiveShares::observe(const Piece& global, std::span<const RankStep> ranks) {
  if (global.global_size() != options_.global_batch) return std::nullopt;   // another size, and mostly a colder cache
  if (warm_up_left_ > 0) {
    --warm_up_left_;
    return std::nullopt;
  }
  std::string cause;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    if (shares_[r] == 0) return std::nullopt;   // fewer samples than ranks: nothing to balance
    const double factor = speeds_[r].observe(ranks[r].busy_seconds());
    if (factor != 1) cause += fmt::format("{}rank {} is {} a step", cause.empty() ? "" : ", ", r, change_of(factor));
  }
  const bool all_known = std::all_of(speeds_.begin(), speeds_.end(), [](const RankSpeed& speed) { return speed.known(); });
  return all_known ? decide(cause) : std::nullopt;
}

std::vector<std::int64_t> AdaptiveShares::cut(std::span<const StepCost> costs) const {
  if (options_.unit == 1) return cut_by_cost(options_.global_batch, costs, options_.bounds);
  std::vector<StepCost> by_unit(costs.begin(), costs.end());
  for (StepCost& cost : by_unit) cost.sample_seconds *= static_cast<double>(options_.unit);
  const std::int64_t units = (options_.global_batch + options_.unit - 1) / options_.unit;
  const std::int64_t least = options_.bounds.least / options_.unit + (options_.bounds.least % options_.unit > 0 ? 1 : 0);
  const ShareBounds bounds{least, options_.bounds.most / options_.unit};
  return units_to_samples(cut_by_cost(units, by_unit, bounds), options_.unit, options_.global_batch);
}

std::optional<ShareChange> AdaptiveShares::decide(const std::string& cause) {
  double now = 0, speed = 0, uncertainty = 0, fixed = 0;
  std::size_t last = 0;
  for (std::size_t r = 0; r < speeds_.size(); ++r) {
    const double seconds = speeds_[r].seconds();
    if (seconds > now) last = r;
    now = std::max(now, seconds);
    speed += static_cast<double>(shares_[r]) / seconds;
    fixed += speeds_[r].cost().fixed_seconds;
    uncertainty = std::max(uncertainty, speeds_[r].uncertainty());
  }
  // Among many ranks the slowest looks slow by chance.
  const double noise = (2.5 + std::bit_width(speeds_.size()) / 4.0) * uncertainty;
  const double band = 1 + std::max(options_.dead_band, noise);
  // The common case: no cut could be much better.
  if (fixed == 0 && now <= band * static_cast<double>(options_.global_batch) / speed) return std::nullopt;
  const std::vector<StepCost> costs = this->costs();
  std::vector<std::int64_t> best = cut(costs);
  const double then = slowest(costs, best);
  if (now <= band * then) return std::nullopt;
  const auto equal = equal_shares(options_.global_batch, static_cast<int>(shares_.size()), options_.unit);
  const auto [least, most] = std::minmax_element(equal.begin(), equal.end());
  const bool equal_fits = *least >= options_.bounds.least && *most <= options_.bounds.most;
  if (equal_fits && slowest(costs, equal) <= (1 + options_.dead_band / 2) * then) best = equal;
  if (best == shares_) return std::nullopt;
  move_to(std::move(best));
  const std::string why = cause.empty() ? fmt::format("the others wait for rank {}", last) : cause;
  return ShareChange{shares_, fmt::format("{}: a step of {:.3g} ms should become one of {:.3g} ms", why, 1e3 * now, 1e3 * then)};
}

std::string AdaptiveShares::state() const {
  json::array ranks;
  for (std::size_t r = 0; r < speeds_.size(); ++r) {
    const RankSpeed::Fit& fit = speeds_[r].fit();
    ranks.push_back({{"share", shares_[r]}, {"fixed_seconds", exact(fit.cost.fixed_seconds)},
                     {"sample_seconds", exact(fit.cost.sample_seconds)},
                     {"usual_sample_seconds", exact(fit.usual_sample_seconds)}, {"variance", exact(fit.variance)}, {"steps", fit.steps}});
  }
  return json::serialize(ranks);
}

bool AdaptiveShares::restore(const std::string& state) {
  std::vector<std::int64_t> shares;
  std::vector<RankSpeed> speeds;
  std::int64_t total = 0;
  try {
    const json::value ranks = json::parse(state);
    for (const json::value& rank : ranks.as_array()) {
      shares.push_back(rank.at("share").as_int64());
      total += shares.back();
      const StepCost cost{exact(rank.at("fixed_seconds")), exact(rank.at("sample_seconds"))};
      speeds.emplace_back(shares.back(), options_.global_batch / std::ssize(shares_),
                          RankSpeed::Fit{cost, exact(rank.at("usual_sample_seconds")), exact(rank.at("variance")), rank.at("steps").as_int64()});
    }
  } catch (const std::exception& error) {
    throw CheckpointError(fmt::format("the shares in the checkpoint cannot be read: {}", error.what()));
  }
  if (shares.size() != shares_.size() || total != options_.global_batch) return false;   // another job: start afresh
  const bool fit = allowed(shares), all_known = std::all_of(speeds.begin(), speeds.end(), [](const RankSpeed& speed) { return speed.known(); });
  if (!fit && !all_known) return false;
  shares_ = std::move(shares);
  speeds_ = std::move(speeds);
  if (!fit) move_to(cut(costs()));   // bounds or unit are others now
  return true;
}

/// Whole units within bounds; the last share that is not 0 may end within a unit.
bool AdaptiveShares::allowed(std::span<const std::int64_t> shares) const {
  std::int64_t left = options_.global_batch;
  return std::all_of(shares.begin(), shares.end(), [&](std::int64_t share) {
    left -= share;
    return (share % options_.unit == 0 || left == 0) && share <= options_.bounds.most && (share >= options_.bounds.least || left == 0);
  });
}

std::vector<StepCost> AdaptiveShares::costs() const {
  std::vector<StepCost> all;
  for (const RankSpeed& one : speeds_) all.push_back(one.cost());
  return all;
}

void AdaptiveShares::move_to(std::vector<std::int64_t> shares) {
  shares_ = std::move(shares);
  for (std::size_t r = 0; r < speeds_.size(); ++r) speeds_[r].move(shares_[r]);
}

}  // namespace tugline
