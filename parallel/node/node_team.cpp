// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/node/node_team.hpp"

#include <algorithm>

#include "tugline/core/cpu.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

constexpr int kSpins = 2000;         // tens of microseconds
constexpr int kTagOfNothing = 32767; // nobody sends with it

/// Spinning pays only where nobody waits for this core: every rank must have one, by its binding and by the host's quota.
Patience patience_of(Communicator& host) {
  const auto lists = host.all_gather(core_list(cpu_budget().cores));
  std::vector<std::vector<int>> cores;
  for (const std::string& list : lists) cores.push_back(parse_core_list(list));
  std::vector<int> all;
  for (const auto& list : cores) all.insert(all.end(), list.begin(), list.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  const double quota = cpu_budget().cgroup_cores;
  const double usable = quota > 0 ? std::min(quota, static_cast<double>(all.size())) : static_cast<double>(all.size());
  Patience patience;
  patience.spins = usable >= host.size() ? kSpins : 0;
  return patience;
}

}  // namespace

NodeTeam::NodeTeam(World& world) : NodeTeam(world.control().split(world.host_index(), world.rank()), world.control()) {
  lanes_ = world.fewest_on_a_host();
  num_hosts_ = world.num_hosts();
  if (num_hosts_ > 1) lane_ = world.control().split(rank_ < lanes_ ? rank_ : -1, world.host_index());
}

NodeTeam::NodeTeam(std::unique_ptr<Communicator> host, Communicator& everyone)
    : owned_host_(std::move(host)), host_(*owned_host_), everyone_(everyone), rank_(host_.rank()), size_(host_.size()),
      patience_(patience_of(host_)) {
  barrier_ = make_signals();
}

NodeTeam::NodeTeam(Communicator& control)
    : host_(control), everyone_(control), rank_(control.rank()), size_(control.size()), lanes_(size_), patience_(patience_of(control)) {
  barrier_ = make_signals();
}
NodeTeam::~NodeTeam() = default;

std::shared_ptr<void> NodeTeam::keep(const std::shared_ptr<SharedMemory>& memory, bool common) {
  std::byte* const mine = memory->of(common ? 0 : rank_);
  pieces_[mine] = {memory, common};
  return {memory, mine};
}

std::shared_ptr<void> NodeTeam::allocate(std::size_t bytes) {
  return keep(SharedMemory::create(host_, everyone_, std::max<std::size_t>(bytes, 1)), false);
}

std::shared_ptr<void> NodeTeam::allocate_common(std::size_t bytes) {
  return keep(SharedMemory::create(host_, everyone_, rank_ == 0 ? std::max<std::size_t>(bytes, 1) : 0), true);
}

std::vector<std::byte*> NodeTeam::everywhere(const void* mine) const {
  std::vector<std::byte*> result;
  const auto found = pieces_.find(mine);
  const auto memory = found == pieces_.end() ? nullptr : found->second.memory.lock();
  if (!memory) return result;
  for (int rank = 0; rank < size_; ++rank) result.push_back(memory->of(found->second.common ? 0 : rank));
  return result;
}

bool NodeTeam::is_common(const void* memory) const {
  const auto found = pieces_.find(memory);
  return found != pieces_.end() && found->second.common && !found->second.memory.expired();
}

std::vector<Signal*> NodeTeam::make_signals() {
  constexpr std::size_t kPerPiece = kReadySignals + 1;
  const std::size_t index = num_signals_ % kPerPiece;
  if (index == 0) signal_memory_.push_back(allocate(kPerPiece * sizeof(Signal)));   // may throw: then nothing has happened
  ++num_signals_;
  std::vector<Signal*> signals;
  for (std::byte* const memory : everywhere(signal_memory_.back().get())) signals.push_back(reinterpret_cast<Signal*>(memory) + index);
  return signals;
}

void NodeTeam::wait_for_all(const std::vector<Signal*>& signals, std::uint32_t value) {
  for (Signal* const signal : signals) wait_for(*signal, value);
}

void NodeTeam::wait_for(Signal& signal, std::uint32_t value) {
  wait_until(signal, value, patience_, [this] { look_around(); });
}

/// The threads backend says here that another rank has failed; under MPI a lost rank ends the job.
void NodeTeam::look_around() { host_.probe(-1, kTagOfNothing); }

void NodeTeam::barrier() {
  raise(*barrier_[static_cast<std::size_t>(rank_)], ++barriers_);
  wait_for_all(barrier_, barriers_);
}

}  // namespace tugline
