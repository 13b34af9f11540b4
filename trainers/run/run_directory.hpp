// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ctime>
#include <filesystem>
#include <string>
#include <utility>

namespace tugline {

/// created: nothing was there. resumed: an unfinished run of the same config; go on from its newest checkpoint, if it has
/// one. finished: a run of the same config that is done; there is nothing to do.
enum class RunState { created, resumed, finished };

/// Names of what a run keeps in its folder (docs/run-directory.md); the same on every rank.
class RunPaths {
 public:
  RunPaths() = default;
  explicit RunPaths(std::filesystem::path folder) : folder_(std::move(folder)) {}
  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path config() const { return folder_ / "config.yaml"; }  ///< fully resolved
  std::filesystem::path environment() const { return folder_ / "environment.json"; }
  std::filesystem::path metrics() const { return folder_ / "metrics.jsonl"; }
  std::filesystem::path updates() const { return folder_ / "updates.jsonl"; }   ///< of an asynchronous run
  std::filesystem::path checkpoints() const { return folder_ / "checkpoints"; }
  std::filesystem::path result() const { return folder_ / "result.json"; }  ///< written last
  std::filesystem::path log(int rank) const { return folder_ / "logs" / ("rank-" + std::to_string(rank) + ".log"); }

 private:
  std::filesystem::path folder_;
};

struct RunOptions {
  std::filesystem::path folder;  ///< --run-dir; empty: runs/<config name>-<YYYYmmdd-HHMMSS>
  std::string config_name;
  std::string config_yaml;  ///< fully resolved; says whether an older run is the same one
  std::string default_yaml; ///< of a config that sets nothing; a key that an older run's config lacks counts as what stands here
  bool fresh = false;       ///< --fresh: delete what an older run wrote, then start over
  std::time_t now = 0;      ///< 0: the machine's clock
};

/// A new, empty folder runs/<config name>-<time>, as RunDirectory makes one where none is named. Throws IoError.
std::filesystem::path make_run_folder(const std::string& config_name, std::time_t now = 0);

/// What RunDirectory would find there, with the same errors but that of a run in use. Touches nothing, so that a run that
/// cannot start leaves nothing behind.
RunState look_for_run(const RunOptions& options);

/// A run's folder, locked against other jobs for as long as this lives. Rank 0 has it; the other ranks use RunPaths.
class RunDirectory {
 public:
  /// Makes the folder, or finds the run in it. Never touches a folder that has files but is no run of Tugline's
  /// (UsageError), a run that another process holds (UsageError), or a run with another config (ConfigError that names the
  /// first difference).
  explicit RunDirectory(const RunOptions& options);

  const RunPaths& paths() const { return paths_; }
  RunState state() const { return state_; }

 private:
  /// An flock that ends with its owner, however that ends.
  class Lock {
   public:
    Lock() = default;
    explicit Lock(const std::filesystem::path& folder);
    ~Lock();
    Lock(Lock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Lock& operator=(Lock&& other) noexcept {
      std::swap(fd_, other.fd_);
      return *this;
    }

   private:
    int fd_ = -1;
  };
  RunPaths paths_;
  Lock lock_;
  RunState state_ = RunState::created;
};

/// The first key whose value differs between two resolved configs, as "optim.lr is 0.1 there and 0.2 here"; empty: equal.
std::string first_difference(const std::string& yaml_there, const std::string& yaml_here);

}  // namespace tugline
