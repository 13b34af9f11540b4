// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/io/background_job.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/metrics/sink.hpp"
#include "tugline/core/state/train_state.hpp"

namespace tugline {

class Communicator;
class FaultInjector;
class World;

/// Who writes a checkpoint: rank 0 alone, or several ranks a slice each.
struct CheckpointWriters {
  std::vector<int> ranks{0};                ///< the first is rank 0
  std::unique_ptr<Communicator> channel;    ///< of their own, where they are several: all ranks of the world
};
/// One rank per host, as long as each has checkpoint.slice_mib to write; all ranks where they have residuals, which are each rank's own. Rank
/// 0 alone where others do not see what it writes into `folder`. Collective. Throws AgreedError where nothing can be written.
CheckpointWriters choose_writers(World& world, const CheckpointConfig& config, const TrainState& state, const std::filesystem::path& folder);

/// Checkpoints of a run: training waits for a copy of the state and for the checkpoint before, if that is not yet on disk; a thread of each
/// writer does the rest. One thread calls. Every rank has one; those that write nothing do nothing.
class CheckpointSaver {
 public:
  /// `faults` may be null. Everything must outlive it.
  CheckpointSaver(int rank, CheckpointWriters writers, CheckpointFolder folder, const CheckpointConfig& config, RunLog& log, FaultInjector* faults);

  struct Mark {
    bool write = true;   ///< false: this step is saved already
    bool best = false;   ///< of the run so far
  };
  /// Copies the state for start(). Throws CheckpointError when the checkpoint before could not be written (checkpoint.on_error: stop).
  void prepare(const TrainState& state, const std::string& config_yaml, Mark mark);
  /// Once every rank has prepared: writers wait for each other.
  void start();
  /// The last one could not be written; prepare() and settle() will say why. Rank 0 speaks for all writers.
  bool failed() const { return job_.failed(); }
  /// Until the last one is on disk. Throws likewise.
  void settle();
  /// The checkpoint of a step is there; rank 0's word.
  bool has(std::int64_t step) const { return std::filesystem::exists(folder_.path_of(step)); }
  bool writes() const { return slice_.number > 0; }
  bool several() const { return slice_.count > 1; }   ///< ranks write

 private:
  void write();
  void write_files();
  std::string write_own(const std::filesystem::path& file);

  CheckpointWriters writers_;
  Slice slice_;            // number 0: this rank writes nothing
  CheckpointFolder folder_;
  const CheckpointConfig& config_;
  RunLog& log_;
  FaultInjector* faults_;
  Snapshot snapshot_;
  Progress progress_;      // of it
  Mark mark_;
  struct Written {
    std::filesystem::path file;
    std::int64_t step = 0;
    double seconds = 0;
  } written_;              // by the job, for the log; empty: nothing to say
  BackgroundJob job_;      // ends before what it uses does
};

}  // namespace tugline
