// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "tugline/core/error.hpp"

namespace tugline {

class Communicator;

/// Memory cannot be shared between these ranks, or there is not enough of it. All ranks throw it alike; the sentence says which rank met what.
class NoSharedMemory : public Error {
 public:
  explicit NoSharedMemory(const std::string& what, std::source_location where = std::source_location::current())
      : Error(ExitCode::internal, what, where) {}
};

/// Zeroed, page-aligned memory of each rank, mapped by all ranks of one host. It is anonymous (memfd): it has no name in /dev/shm, is not
/// limited by its size, and is gone with the last process however that ends. Its pages are reserved at once, so that touching them never
/// raises SIGBUS. Ranks that are threads of one process see one mapping.
class SharedMemory {
 public:
  /// Collective over `everyone`: the ranks of each `host` share, and all throw NoSharedMemory when it fails on one. `bytes` is this rank's
  /// own size; 0: it gives none.
  static std::shared_ptr<SharedMemory> create(Communicator& host, Communicator& everyone, std::size_t bytes);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  /// Where this process sees the memory of `rank` of the host; null when it gave none.
  std::byte* of(int rank) const;

 private:
  struct Mapping;
  SharedMemory();
  std::vector<std::shared_ptr<Mapping>> mappings_;   // per rank
};

}  // namespace tugline
