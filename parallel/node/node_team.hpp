// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <vector>

#include "tugline/parallel/node/shared_memory.hpp"
#include "tugline/parallel/node/signal.hpp"

namespace tugline {

class Communicator;
class World;

/// Ranks of one host that read and write each other's memory. One thread per rank; nothing here is a message, but for setting up.
class NodeTeam {
 public:
  /// Collective. Throws NoSharedMemory on all ranks when some are on another host or the system does not allow it. `world` must outlive it.
  explicit NodeTeam(World& world);
  /// The same over ranks that are known to be on one host.
  explicit NodeTeam(Communicator& control);

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// Collective. Zeroed memory of this rank that all can reach: `bytes` must be equal on all ranks. The result keeps it alive, beyond
  /// this team too. Throws NoSharedMemory.
  std::shared_ptr<void> allocate(std::size_t bytes);
  /// Collective. One piece of zeroed memory, the same for all ranks.
  std::shared_ptr<void> allocate_common(std::size_t bytes);
  /// Where this process sees each rank's memory that came from the same call as `mine`; empty when it came from none.
  std::vector<std::byte*> everywhere(const void* mine) const;
  bool is_common(const void* memory) const;

  /// Waits until all ranks have raised their signal in `signals`, one per rank, to `value`.
  void wait_for_all(const std::vector<Signal*>& signals, std::uint32_t value);
  /// Collective. What any rank wrote before is seen by all after.
  void barrier();
  /// A signal per rank, made by allocate(). Collective.
  std::vector<Signal*> make_signals(std::shared_ptr<void>& keeper);

 private:
  struct Piece {
    std::weak_ptr<SharedMemory> memory;
    bool common = false;
  };
  std::shared_ptr<void> keep(const std::shared_ptr<SharedMemory>& memory, bool common);

  Communicator& control_;
  int rank_, size_;
  Patience patience_;
  std::map<const void*, Piece> pieces_;   // by where this rank sees its own
  std::shared_ptr<void> barrier_memory_;
  std::vector<Signal*> barrier_;
  std::uint32_t barriers_ = 0;
};

}  // namespace tugline
