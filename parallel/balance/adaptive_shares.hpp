// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "tugline/parallel/balance/cut.hpp"
#include "tugline/parallel/balance/rank_speed.hpp"
#include "tugline/parallel/balance/share_rule.hpp"

namespace tugline {

struct AdaptiveOptions {
  std::int64_t global_batch = 0;
  std::int64_t unit = 1;        ///< samples that stay together: 1, or a micro-batch
  ShareBounds bounds{};         ///< in samples
  double dead_band = 0.03;      ///< of a step's time: a cut that gains less is not made
};

/// Follows each rank's time of its own work (waiting for the loader, forward, backward; never waiting for others) and cuts the batch so
/// that all finish together. Starts with equal shares; equal ranks keep them. A cut is made when the slowest rank's step
/// would become shorter by more than the dead band and by more than noise explains.
class AdaptiveShares final : public ShareRule {
 public:
  AdaptiveShares(int ranks, AdaptiveOptions options);

  std::vector<std::int64_t> shares(const Piece& global) const override;
  std::optional<ShareChange> observe(const Piece& global, std::span<const RankStep> ranks) override;
  std::string state() const override;
  bool restore(const std::string& state) override;

 private:
  std::vector<std::int64_t> cut(std::span<const StepCost> costs) const;
  std::optional<ShareChange> decide(const std::string& cause);
  bool allowed(std::span<const std::int64_t> shares) const;
  std::vector<StepCost> costs() const;
  void move_to(std::vector<std::int64_t> shares);

  AdaptiveOptions options_;
  std::vector<std::int64_t> shares_;
  std::vector<RankSpeed> speeds_;
  int warm_up_left_;
};

}  // namespace tugline
