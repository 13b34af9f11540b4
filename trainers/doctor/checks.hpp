// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tugline/core/metrics/console_mode.hpp"
#include "tugline/trainers/doctor/file_system_probe.hpp"

namespace tugline {

struct DeviceFacts;

enum class Status { ok, warn, fail };

/// One line of the doctor's report.
struct Check {
  std::string name;
  Status status = Status::ok;
  std::string detail;
  std::string advice;  ///< what to do; empty when all is well
};

/// What one rank sees of its machine.
struct RankFacts {
  int rank = 0;
  std::string host;
  std::vector<int> cores;  ///< it may run on
  int online_cores = 1;
  double cgroup_cores = 0;      ///< 0: no limit
  double load = 0;              ///< average over a minute
  std::int64_t shm_bytes = -1;  ///< free in /dev/shm; -1: there is none
  std::string build;            ///< versions of Tugline and its libraries
  int gpu = -1;                 ///< that train.device: cuda gives it, as the rank counts them; -1: it sees none
  std::string gpu_bus;          ///< where that is in the host; empty: not known
  bool sees_folder = true;      ///< the file that rank 0 left in the run's folder is there
};

struct TorchFacts {
  std::string version;
  std::string blas;          ///< "mkl", "open", ...
  std::string instructions;  ///< "AVX2"
};

/// Judges: facts in, one check out. They look at nothing else.
Check check_mpi(const std::string& world_description);
Check check_build(const std::vector<RankFacts>& ranks);
Check check_root(bool is_root, bool allowed);
Check check_binding(const std::vector<RankFacts>& ranks);
Check check_cpu_limit(const std::vector<RankFacts>& ranks);
Check check_load(const std::vector<RankFacts>& ranks);
Check check_shared_memory(const std::vector<RankFacts>& ranks);
Check check_torch(const TorchFacts& torch);
Check check_devices(const DeviceFacts& devices);
Check check_device_map(const std::vector<RankFacts>& ranks);
Check check_device_links(const DeviceFacts& devices);
Check check_file_system(const FileSystemFacts& facts);
Check check_shared_folder(const std::vector<RankFacts>& ranks, const std::string& folder);
Check check_console(const ConsoleDecision& decision);

}  // namespace tugline
