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

/// The ranks of this rank's host, who read and write each other's memory. One thread per rank; nothing here is a message, but for setting
/// up. What is collective is so over all ranks of the world, on all of its hosts.
class NodeTeam {
 public:
  /// Collective. Throws NoSharedMemory on all ranks when some host's system does not allow it. `world` must outlive it.
  explicit NodeTeam(World& world);
  /// The same over ranks that are known to be on one host.
  explicit NodeTeam(Communicator& control);
  ~NodeTeam();

  int rank() const { return rank_; }   ///< on this host
  int size() const { return size_; }
  /// What must be known by all hosts is exchanged by the first lanes() ranks of each, each lane by itself: as many as the smallest host has
  /// ranks.
  int lanes() const { return lanes_; }
  /// The ranks with this rank() on all hosts, in the order of hosts; null on the only host, and for a rank beyond lanes().
  Communicator* lane() const { return lane_.get(); }
  int num_hosts() const { return num_hosts_; }

  /// Collective. Zeroed memory of this rank that all can reach: `bytes` must be equal on all ranks. The result keeps it alive, beyond
  /// this team too. Throws NoSharedMemory.
  std::shared_ptr<void> allocate(std::size_t bytes);
  /// Collective. One piece of zeroed memory, the same for all ranks.
  std::shared_ptr<void> allocate_common(std::size_t bytes);
  /// Where this process sees each rank's memory that came from the same call as `mine`; empty when it came from none.
  std::vector<std::byte*> everywhere(const void* mine) const;
  bool is_common(const void* memory) const;

  /// Waits until all ranks of the host have raised their signal in `signals`, one per rank, to `value`.
  void wait_for_all(const std::vector<Signal*>& signals, std::uint32_t value);
  /// Waits until `signal`, in memory of the team, has been raised to `value`.
  void wait_for(Signal& signal, std::uint32_t value);
  /// For who waits by other means: throws where a rank is known to have failed, and lets messages move.
  void look_around();
  /// Of the ranks of this host. What any wrote before is seen by all after.
  void barrier();
  /// A signal per rank, at 0; they live as long as this team, which takes none back. Collective. The first kReadySignals of a team never throw NoSharedMemory: their
  /// memory was reserved with the team, since who asks for them can often no longer turn to messages.
  std::vector<Signal*> make_signals();
  static constexpr std::size_t kReadySignals = 63;   // a page, less the barrier's own

 private:
  NodeTeam(std::unique_ptr<Communicator> host, Communicator& everyone);
  struct Piece {
    std::weak_ptr<SharedMemory> memory;
    bool common = false;
  };
  std::shared_ptr<void> keep(const std::shared_ptr<SharedMemory>& memory, bool common);

  std::unique_ptr<Communicator> owned_host_, lane_;
  Communicator& host_;
  Communicator& everyone_;
  int rank_, size_, lanes_ = 1, num_hosts_ = 1;
  Patience patience_;
  std::map<const void*, Piece> pieces_;   // by where this rank sees its own
  std::vector<std::shared_ptr<void>> signal_memory_;
  std::size_t num_signals_ = 0;
  std::vector<Signal*> barrier_;
  std::uint32_t barriers_ = 0;
};

}  // namespace tugline
