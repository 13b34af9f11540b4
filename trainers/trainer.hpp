// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "tugline/core/clock.hpp"
#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/metrics/sink.hpp"
#include "tugline/parallel/balance/make_share_rule.hpp"
#include "tugline/trainers/evaluate.hpp"

namespace tugline {

class FaultInjector;
class Learner;
struct RecordedUpdates;
class StopSignal;
class World;

/// How a run ended, the same on every rank but for the times.
struct TrainResult {
  enum class Ending { done, early_stop, time_limit, paused, signal } ending = Ending::done;
  std::int64_t epochs = 0;             ///< whole epochs done
  std::int64_t steps = 0;
  double seconds = 0;                  ///< of training steps, all attempts
  double samples_per_second = 0;       ///< of this attempt's training steps
  Evaluation train;                    ///< mean over the last epoch's steps, as they were made
  Evaluation validation;               ///< samples 0: there is no such split
  Evaluation test;
};

/// Collective. Throws an AgreedError when this model cannot be trained like this on so many ranks. Trainer checks it too; this is for
/// before anything is written. `recorded`: see Trainer::Parts.
void require_trainable(World& world, const RunConfig& config, Learner& learner, const DataSplits& data, const RecordedShares& recorded = {});

/// The training loop, written once: a strategy hands out pieces, the learner computes, the strategy finishes the step.
/// Everything given must outlive it. One thread; all members are collective.
class Trainer {
 public:
  struct Parts {
    World& world;
    const RunConfig& config;
    Learner& learner;
    const DataSplits& data;
    RunLog& log;                        ///< has sinks on rank 0 alone
    CheckpointFolder checkpoints;
    const StopSignal& stop;
    const Clock& clock = Clock::steady();
    FaultInjector* faults = nullptr;    ///< what goes wrong on purpose
    RecordedShares recorded = {};       ///< what parallel.balance.replay names (read_run_shares)
    std::shared_ptr<const RecordedUpdates> repeat = nullptr;     ///< what parallel.async.replay names (read_run_updates)
    std::function<void(const std::string& line)> record_update = nullptr;   ///< on rank 0: takes the lines of an asynchronous run's record
    std::int64_t until_epochs = 0;      ///< stop, with a checkpoint and an evaluation, when so many are done; 0: go on to the end
  };
  explicit Trainer(Parts parts);
  ~Trainer();

  /// Continues from the newest checkpoint that verifies; false when there is none at all. Throws AgreedError (ExitCode::io) when it does
  /// not fit, or when there are some and none is intact.
  bool resume();
  std::int64_t steps_done() const;
  /// Trains to the end, or to a signal, and leaves a checkpoint of the last step on disk. Throws Error when losses or gradients are not
  /// finite or out of line (train.nonfinite), or when a checkpoint cannot be written. Ends the job (ExitCode::hang) when a rank stands still.
  TrainResult run();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tugline
