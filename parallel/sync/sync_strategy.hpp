// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "tugline/core/clock.hpp"
#include "tugline/core/optim/schedule.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/strategy.hpp"
#include "tugline/parallel/sync/exchange.hpp"

namespace tugline {

class Arena;
class NodeTeam;
class Optimizer;
class ShareRule;

/// How an epoch's sample order is cut into steps; the same on every rank.
struct StepPlan {
  std::int64_t num_samples = 0;    ///< of an epoch; at least 1
  std::int64_t global_batch = 0;
  bool drop_last = false;          ///< drop the ragged last batch of an epoch
  std::int64_t total_steps = 0;    ///< of the run
  std::int64_t steps_per_epoch() const;
  /// The global batch of step `step` (global_begin, global_end, epoch; the rank's part is left empty).
  Piece global_piece(std::int64_t step) const;
};

/// Rank `rank`'s part of `global`: equal shares, the first ones of an uneven cut are not larger by more than one.
Piece equal_share(Piece global, int rank, int size);

/// Where the shares, in rank order, are given.
Piece share_of(Piece global, std::span<const std::int64_t> shares, int rank);

/// The same where the unit is a shard: the global batch is cut into `shards` parts, all but the last ones equal, and each rank has as many
/// of them. `shards` is a multiple of `size`.
Piece shards_of(Piece global, int shards, int rank, int size);
/// Samples of a shard.
std::int64_t shard_size(const Piece& global, int shards);

struct SyncOptions {
  double clip_norm = 0;            ///< 0: off
  double clip_value = 0;           ///< 0: off
  std::int64_t first_step = 0;     ///< where a resumed run goes on
  std::shared_ptr<NodeTeam> node;  ///< the ranks of a host share memory, in which the arena's gradients lie; null: all by message
  ExchangeOptions exchange;        ///< of what goes by message
  /// > 0, a power of two: each backward pass is one shard, and gradients are added up in one order whatever the number of ranks, which must
  /// be a power of two and at most this. 1, 2, 4, ... ranks then have the same bits. Nothing overlaps. Needs a copy of the parameters per rank.
  int shards = 0;
  std::shared_ptr<ShareRule> shares;   ///< cuts the global batch, and is told what each step took; null: equal shares
  std::shared_ptr<SpikeDetector> spikes;   ///< judges the norm of each step's gradient, alike on all ranks; null: nobody does
  /// > 1, on a device: the host goes on before that has computed, for so many steps, or until meet_after(steps done) or somebody wants to stop
  /// or save. What a step may move is then decided there. Not with spikes, nor with clip_norm and clip_value at once.
  std::int64_t read_every = 1;
  std::function<bool(std::int64_t steps)> meet_after;
  bool wait_for_nonfinite = false; ///< after a step that is not finite nothing moves until it has been read; false: it alone is left out
};

/// Synchronous SGD: each bucket of the gradient arena is summed over all ranks while backward still runs (Li et al. 2020,
/// "PyTorch Distributed"), then every rank makes the same optimizer step; ranks that have one copy of the parameters in common step
/// a slice of it each (Rajbhandari et al. 2020, "ZeRO", within one host). Buckets always leave in one order, so a rank whose
/// piece is empty or whose parameters got no gradient takes part like any other.
class SyncStrategy final : public Strategy {
 public:
  /// Everything must outlive the strategy; it hooks into the arena's parameters. Collective calls happen on
  /// `gradients` (buckets) and `control` (records). Collective where ranks share memory. Throws Error when they share a copy of the
  /// parameters and the optimizer is not elementwise.
  SyncStrategy(Communicator& gradients, Communicator& control, Arena& arena, Optimizer& optimizer, Schedule schedule,
               StepPlan plan, SyncOptions options, const Clock& clock = Clock::steady());
  ~SyncStrategy() override;

  std::optional<Piece> next_piece() override;
  std::optional<Piece> upcoming(const Piece& piece) const override;
  void begin_step(int backwards, double nominal_weight) override;
  StepFacts finish_step(const StepReport& report) override;
  std::vector<Residual> residuals() const override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tugline
