// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/optim/schedule.hpp"
#include "tugline/parallel/strategy.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"

namespace tugline {

class Arena;
class Communicator;
class NodeTeam;
class Optimizer;
struct RecordedUpdates;

struct AsyncOptions {
  /// How stale a gradient may be: updates of the same range between its read and its own. Unset: as many as lets every other rank finish
  /// as many pieces as it can while the slowest computes one, at least two each.
  std::optional<std::int64_t> staleness;
  std::int64_t pieces_per_step = 0;   ///< parts of the global batch; 0: one per worker. With a bound of 0 always one per worker.
  std::int64_t local_steps = 1;       ///< a piece is computed in so many parts, each after a step on this rank's own copy with the part before
  std::int64_t servers = 0;           ///< ranks, the last ones, that are no workers but keep the parameters for others; 0: see below
  /// Called on a server again and again while it waits for the next meeting; `updated`: what it keeps has had an update since the last call. True:
  /// it is asked to stop, and all are to meet soon. Null: nobody cares.
  std::function<bool(bool updated)> serving;
  double staleness_power = 0;         ///< see staleness_factor()
  double clip_norm = 0;               ///< of each piece's own gradient; 0: off
  double clip_value = 0;              ///< 0: off
  std::int64_t first_step = 0;        ///< where a resumed run goes on
  std::shared_ptr<NodeTeam> node;     ///< the ranks of a host share memory, in which the arena's gradients lie; null: there is one rank
  std::vector<std::string> hosts;     ///< one name per rank; empty: all are on one
  /// On a device: what the model computes with, laid out as the arena. The run begins with its values, equal on all ranks, in place of the arena's;
  /// from then on gradients come from there, and values go there. Null: the arena itself.
  Arena* model = nullptr;
  /// Something is due after so many steps that needs all ranks to hold the same. They also meet after each epoch.
  std::function<bool(std::int64_t steps)> meet_after;
  std::function<void(const std::string& line)> record;   ///< on rank 0: takes lines of piece_record.hpp; null: nobody wants them
  std::shared_ptr<const RecordedUpdates> repeat;         ///< a run that this one repeats, bit for bit; null: a run of its own
};

/// How many ranks compute, the first ones, when the last `servers` of them do not. Throws AgreedError when that cannot be.
int async_workers(int ranks, int hosts, std::int64_t servers);

/// Asynchronous SGD with bounded staleness (Dean et al. 2012, "Downpour"; Ho et al. 2013, "stale synchronous parallel"). The global batch is cut
/// into pieces, which go to whichever rank is free: that is all the load balancing there is. A rank computes on a copy of the
/// parameters, then pushes its gradient, range by range, to where all ranks have them in common, where it is applied at once unless that would leave
/// somebody computing on parameters that are older than the bound allows (RangeLedger); then it is applied with those that it waits for. Each
/// host keeps a part of the ranges, or each host with one of `servers`, and serves it to the others by messages.
///
/// An update counts as the part of a step that its samples are of the global batch: learning rate, momentum and averages go as far over a
/// global batch as in a synchronous step (Update::fraction). With a bound of 0 all pieces of a step are one update: bit for bit what
/// SyncStrategy computes. With local_steps a rank goes on by plain gradient steps on its own copy within a piece, and pushes the sum of the gradients
/// (Dean et al. 2012, n_push = n_fetch = local_steps).
class AsyncStrategy final : public Strategy {
 public:
  /// Everything must outlive the strategy. `optimizer` steps `common` (make_optimizer), which is memory of all ranks made by arena.like(), and so
  /// are its slots; the arena's values are each rank's own, equal on all. Collective. Messages go over `messages`, agreement over
  /// `control`. Throws AgreedError when `repeat` or `servers` does not fit.
  AsyncStrategy(Communicator& messages, Communicator& control, Arena& arena, Optimizer& optimizer, std::vector<at::Tensor> common,
                Schedule schedule, StepPlan plan, AsyncOptions options, const Clock& clock = Clock::steady());
  ~AsyncStrategy() override;

  std::optional<Piece> next_piece() override;
  std::optional<Piece> upcoming(const Piece& piece) const override;
  void begin_step(int backwards, double nominal_weight) override;
  StepFacts finish_step(const StepReport& report) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tugline
