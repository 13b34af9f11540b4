// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/io/background_job.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/metrics/sink.hpp"
#include "tugline/core/state/train_state.hpp"

namespace tugline {

class FaultInjector;

/// Rank 0's checkpoints: training waits for a copy of the state and for the checkpoint before, if that is not yet on disk; a thread does
/// the rest. One thread calls.
class CheckpointSaver {
 public:
  /// `faults` may be null. Everything must outlive it.
  CheckpointSaver(CheckpointFolder folder, const CheckpointConfig& config, RunLog& log, FaultInjector* faults);

  struct Mark {
    bool write = true;   ///< false: this step is saved already
    bool best = false;   ///< of the run so far
  };
  /// Throws CheckpointError when the one before could not be written (checkpoint.on_error: stop).
  void save(const TrainState& state, const std::string& config_yaml, Mark mark);
  /// The last one could not be written; save() and settle() will say why.
  bool failed() const { return job_.failed(); }
  /// Until the last one is on disk. Throws likewise.
  void settle();

 private:
  void write(const Progress& progress, Mark mark);

  CheckpointFolder folder_;
  const CheckpointConfig& config_;
  RunLog& log_;
  FaultInjector* faults_;
  Snapshot snapshot_;
  struct Written {
    std::filesystem::path file;
    std::int64_t step = 0;
    double seconds = 0;
  } written_;              // by the job, for the log; empty: nothing to say
  BackgroundJob job_;      // ends before what it uses does
};

}  // namespace tugline
