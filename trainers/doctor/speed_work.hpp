// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

namespace tugline {

/// Work for one thread, in units that cost the same each time, on every machine that runs this build.
class SpeedWork {
 public:
  virtual ~SpeedWork() = default;
  virtual void run(std::int64_t units) = 0;
  /// Floating point operations, or bytes read and written, in a unit.
  virtual double amount_per_unit() const = 0;
};

/// Products of two 64 x 64 matrices, which stay in the core's own caches.
std::unique_ptr<SpeedWork> matrix_work();

/// Reads and writes a buffer of so many bytes from end to end and round again, 1 MiB a unit. All of it is touched here.
std::unique_ptr<SpeedWork> stream_work(std::int64_t buffer_bytes);

/// How large a buffer must be for the last-level cache not to hold it: twice that, and at least 64 MiB. The `local_ranks`
/// of a host together take no more than 1/16 of its free memory, so it is less where there is little.
std::int64_t stream_buffer_bytes(std::int64_t cache_bytes, std::int64_t free_bytes, int local_ranks);

}  // namespace tugline
