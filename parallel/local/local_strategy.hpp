// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "tugline/core/clock.hpp"
#include "tugline/core/optim/schedule.hpp"
#include "tugline/parallel/strategy.hpp"
#include "tugline/parallel/sync/exchange.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"

namespace tugline {

class Arena;
class Communicator;
class NodeTeam;
class Optimizer;
class ShareRule;

struct LocalOptions {
  std::int64_t steps = 16;         ///< of a round: inner steps between two outer ones
  /// Rounds have one step until so many are done, and end with the replicas' mean (Lin et al. 2020, post-local SGD).
  std::int64_t sync_steps = 0;
  double outer_lr = 1;
  bool average_state = true;       ///< the inner optimizer's slots are averaged with the parameters; false: they start each round at zero
  double clip_norm = 0;            ///< of each rank's own gradient; 0: off
  double clip_value = 0;           ///< 0: off
  bool settle_skipped = false;     ///< a last step of the run that is not finite counts as skipped, and ends the round
  std::int64_t first_step = 0;     ///< where a resumed run goes on: the first of a round
  std::shared_ptr<NodeTeam> node;  ///< the ranks of a host share memory, in which the arena's gradients lie; null: all by message
  ExchangeOptions exchange;        ///< of what goes by message
  std::shared_ptr<ShareRule> shares;   ///< cuts the global batch; null: equal shares
  std::shared_ptr<SpikeDetector> spikes;   ///< judges the largest norm of any rank's own gradient, alike on all ranks; null: nobody does
};

/// Local SGD (Stich 2019) and DiLoCo (Douillard et al. 2023). Each rank steps a replica of its own with the mean gradient of its own share of
/// the global batch, and says no more than its record; after a round of such inner steps all ranks make one outer step from where the
/// round began, against the mean of what their replicas moved, each weighted by what its samples weigh: with outer_lr 1 and no momentum
/// that is the mean of the replicas. So parameters go over the wire once a round instead of gradients once a step. After an outer step, and
/// only then, all ranks hold the same (StepFacts::settled).
class LocalStrategy final : public Strategy {
 public:
  /// Everything must outlive the strategy. `arena`: a replica per rank. `inner` steps it; `outer` is an sgd optimizer over the same arena,
  /// which the outer step is made with. Collective calls happen on `gradients` (moves) and `control` (records). Collective where ranks share
  /// memory. Throws Error when ranks share a copy of the parameters; finish_step() AgreedError when a replica is no longer finite.
  LocalStrategy(Communicator& gradients, Communicator& control, Arena& arena, Optimizer& inner, Optimizer& outer, Schedule schedule,
                StepPlan plan, LocalOptions options, const Clock& clock = Clock::steady());
  ~LocalStrategy() override;

  std::optional<Piece> next_piece() override;
  std::optional<Piece> upcoming(const Piece& piece) const override;
  void begin_step(int backwards, double nominal_weight) override;
  StepFacts finish_step(const StepReport& report) override;
  std::vector<Residual> residuals() const override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The optimizer of the outer step: sgd with Nesterov momentum (0: plain). Its slot is "outer_momentum".
std::unique_ptr<Optimizer> make_outer_optimizer(double momentum, Arena& arena);

}  // namespace tugline
