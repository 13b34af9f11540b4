// SPDX-License-Identifier: Apache-2.0
// The half of the double that stands for NCCL.
#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/tests/support/device_double.hpp"
#include "tugline/tests/support/device_double_state.hpp"

namespace tugline {
namespace {

constexpr const char* kRemoteError = "remote process exited or there was a network error";
constexpr int kMessage = 0, kReceived = 1;   // tags of the threads backend

bool failed(threads::Fate& fate) {
  const std::lock_guard<std::mutex> lock(fate.mutex);
  return fate.failed;
}

/// A send that ends when it has been received; threads' own are buffered.
class AcknowledgedSend final : public Work {
 public:
  AcknowledgedSend(Communicator& channel, const void* data, std::int64_t bytes, int to)
      : message_(channel.start_send(data, bytes, to, kMessage)), received_(channel.start_receive(&byte_, 1, to, kReceived)) {}
  bool test() override { return received_->test(); }
  void wait() override { received_->wait(); }

 private:
  char byte_ = 0;
  std::unique_ptr<Work> message_, received_;
};

class AcknowledgingReceive final : public Work {
 public:
  AcknowledgingReceive(Communicator& channel, void* data, std::int64_t bytes, int from)
      : channel_(channel), from_(from), message_(channel.start_receive(data, bytes, from, kMessage)) {}
  bool test() override {
    if (!message_->test()) return false;
    acknowledge();
    return true;
  }
  void wait() override {
    message_->wait();
    acknowledge();
  }

 private:
  void acknowledge() {
    if (!std::exchange(acknowledged_, true)) channel_.start_send("", 1, from_, kReceived);
  }
  Communicator& channel_;
  int from_;
  bool acknowledged_ = false;
  std::unique_ptr<Work> message_;
};

}  // namespace

DeviceDouble::CommState& DeviceDouble::state_of(NcclComm comm) {
  const auto found = comms_.find(comm);
  if (found == comms_.end()) misuse("a communicator that was never made");
  if (found->second->gone) misuse("a communicator in use that was destroyed or aborted");
  return *found->second;
}

void DeviceDouble::plant(int rank, Fault fault) {
  const Lock lock(mutex_);
  faults_.emplace(rank, fault);
}

bool DeviceDouble::faulty(CommState& comm, Fault fault) {
  const auto [begin, end] = faults_.equal_range(comm.rank);
  const auto found = std::find_if(begin, end, [&](const auto& planted) { return planted.second == fault; });
  if (found == end) return false;
  faults_.erase(found);
  return true;
}

int DeviceDouble::launches() {
  const Lock lock(mutex_);
  return launches_;
}

NcclId DeviceDouble::nccl_id() {
  const Lock lock(mutex_);
  NcclId id{};
  const auto text = fmt::format("double {}", ++next_id_);
  std::copy(text.begin(), text.end(), id.begin());
  return id;
}

void DeviceDouble::set_nccl_host(const std::string& name) {
  const Lock lock(mutex_);
  host_of_thread_[std::this_thread::get_id()] = name;
}

/// The last one to come connects them all.
std::shared_ptr<DeviceDouble::CommState> DeviceDouble::add_member(Clique& clique, int rank, int device, const std::string& host) {
  auto member = std::make_shared<CommState>();
  member->rank = rank;
  member->device = device;
  member->host = host;
  clique.members[rank] = member;
  comms_[reinterpret_cast<NcclComm>(member.get())] = member;
  if (static_cast<int>(clique.members.size()) < clique.size) return member;
  std::map<std::pair<int, std::string>, int> by_device;
  for (const auto& [r, other] : clique.members) {
    const auto there = other.lock();
    const auto [first, own] = by_device.emplace(std::pair(there->device, there->host), r);
    if (!own) clique.refusal = fmt::format("invalid usage (Duplicate GPU detected : ranks {} and {} on one device)", first->second, r);
  }
  clique.fate = std::make_shared<threads::Fate>(clique.size);
  clique.team = threads::make_team(clique.fate);
  for (const auto& [r, other] : clique.members) other.lock()->channel = std::move(clique.team[static_cast<std::size_t>(r)]);
  return member;
}

void DeviceDouble::nccl_init(NcclComm& comm, const NcclId& id, int rank, int size) {
  const Lock lock(mutex_);
  std::shared_ptr<Clique>& clique = cliques_[id];
  if (!clique) clique = std::make_shared<Clique>();
  clique->size = size;
  CommState probe;
  probe.rank = rank;
  if (faulty(probe, Fault::refuse_init)) throw CommError("ncclCommInitRankConfig: unhandled system error: no socket interface found");
  const auto host = host_of_thread_.find(std::this_thread::get_id());
  const auto member = add_member(*clique, rank, device(), host == host_of_thread_.end() ? "" : host->second);
  member->clique = clique;
  if (faulty(*member, Fault::fail_init)) member->error = kRemoteError;
  comm = reinterpret_cast<NcclComm>(member.get());
}

void DeviceDouble::nccl_split(NcclComm parent, int color, int key, NcclComm& comm) {
  const Lock lock(mutex_);
  CommState& state = state_of(parent);
  if (!state.unborn.empty() || state.splitting) misuse("a split of a communicator that is in progress");
  state.splitting = true;
  state.polls = 0;
  state.clique->wishes.push_back({comms_.at(parent), color, key, &comm});
  if (static_cast<int>(state.clique->wishes.size()) == state.clique->size) finish_split(*state.clique);
}

void DeviceDouble::finish_split(Clique& parent) {
  auto wishes = std::exchange(parent.wishes, {});
  std::sort(wishes.begin(), wishes.end(), [](const auto& a, const auto& b) {
    return std::tuple(a.color, a.key, a.parent->rank) < std::tuple(b.color, b.key, b.parent->rank);
  });
  for (auto first = wishes.begin(); first != wishes.end();) {
    const auto last = std::find_if(first, wishes.end(), [&](const auto& wish) { return wish.color != first->color; });
    auto clique = std::make_shared<Clique>();
    clique->size = static_cast<int>(last - first);
    for (auto wish = first; wish != last; ++wish) {
      wish->parent->splitting = false;
      *wish->comm = nullptr;
      if (wish->color < 0) continue;
      const auto member = add_member(*clique, static_cast<int>(wish - first), wish->parent->device, wish->parent->host);
      member->clique = clique;
      *wish->comm = reinterpret_cast<NcclComm>(member.get());
    }
    first = last;
  }
}

NcclStatus DeviceDouble::nccl_status(NcclComm comm) {
  using State = NcclStatus::State;
  const Lock lock(mutex_);
  CommState& state = state_of(comm);
  if (!state.error.empty()) return {State::failed, state.error};
  if (!state.clique->refusal.empty()) return {State::failed, state.clique->refusal};
  if (!state.channel || state.splitting || state.polls++ < 1) return {State::in_progress, {}};
  if (failed(*state.clique->fate)) return {State::failed, kRemoteError};
  if (state.finalizing && (state.running > 0 || state.clique->finalized < state.clique->size)) return {State::in_progress, {}};
  if (!state.unborn.empty()) enqueue_launch(state);
  return {};
}

void DeviceDouble::nccl_finalize(NcclComm comm) {
  const Lock lock(mutex_);
  CommState& state = state_of(comm);
  if (!state.unborn.empty() || state.finalizing) misuse("a communicator finalized that is in progress");
  state.finalizing = true;
  state.polls = 0;
  ++state.clique->finalized;
}

void DeviceDouble::nccl_destroy(NcclComm comm) noexcept {
  const Lock lock(mutex_);
  CommState& state = *comms_.at(comm);
  if (state.gone || !state.finalizing || state.running > 0 || state.clique->finalized < state.clique->size) {
    misuses_.push_back("a communicator destroyed before it was finalized");
  }
  state.gone = true;
}

void DeviceDouble::nccl_abort(NcclComm comm) noexcept {
  const Lock lock(mutex_);
  CommState& state = *comms_.at(comm);
  if (std::exchange(state.gone, true)) misuses_.push_back("a communicator aborted that was gone");
  for (const Launch& launch : state.unborn) --streams_.at(launch.stream)->unborn_launches;
  state.unborn.clear();
  std::erase_if(state.clique->wishes, [&](const auto& wish) { return wish.parent.get() == &state; });
  if (state.clique->fate) state.clique->fate->fail();
  changed_.notify_all();
}

// Operations.

void DeviceDouble::group_start() {
  const Lock lock(mutex_);
  ++group_depth_[std::this_thread::get_id()];
}

void DeviceDouble::group_end() {
  const Lock lock(mutex_);
  int& depth = group_depth_[std::this_thread::get_id()];
  if (depth == 0) misuse("the end of a group that never started");
  if (--depth > 0) return;
  for (auto& [comm, launch] : std::exchange(groups_[std::this_thread::get_id()], {})) {
    ++streams_.at(launch.stream)->unborn_launches;
    comm->polls = 0;
    comm->unborn.push_back(std::move(launch));
  }
}

void DeviceDouble::add_call(NcclComm comm, Stream stream, StartCall start) {
  CommState& state = state_of(comm);
  StreamState& on = state_of(stream);
  if (!state.channel || state.finalizing || !state.unborn.empty()) misuse("a call on a communicator that is in progress");
  if (device() != state.device) misuse("a call from a thread whose device is another than the communicator's");
  if (group_depth_[std::this_thread::get_id()] == 0) {
    ++on.unborn_launches;
    state.polls = 0;
    state.unborn.push_back({stream, {std::move(start)}});
    return;
  }
  auto& group = groups_[std::this_thread::get_id()];
  auto found = std::find_if(group.begin(), group.end(), [&](const auto& open) { return open.first.get() == &state; });
  if (found == group.end()) found = group.insert(group.end(), {comms_.at(comm), Launch{stream, {}}});
  found->second.calls.push_back(std::move(start));
}

void DeviceDouble::enqueue_launch(CommState& comm) {
  for (Launch& launch : std::exchange(comm.unborn, {})) {
    StreamState& stream = *streams_.at(launch.stream);
    --stream.unborn_launches;
    ++comm.running;
    ++launches_;
    const auto kept = comms_.at(reinterpret_cast<NcclComm>(&comm));
    enqueue(stream, [this, kept, launch = std::move(launch)](StreamState& state, Lock& lock) {
      run_launch(*kept, launch, state, lock);
      --kept->running;
    });
  }
}

void DeviceDouble::run_launch(CommState& comm, const Launch& launch, StreamState& stream, Lock& lock) {
  if (comm.gone) return;
  const auto gone = [&] { return comm.gone; };
  if (faulty(comm, Fault::hang)) return block(stream, lock, gone);
  if (faulty(comm, Fault::remote_error)) {
    comm.error = kRemoteError;
    return block(stream, lock, gone);
  }
  std::vector<std::unique_ptr<Work>> works;
  try {   // locked: nobody sees that this rank is at fault before it is said here
    for (const StartCall& start : launch.calls) works.push_back(start(*comm.channel));
  } catch (const CommError& error) {
    comm.error = failed(*comm.clique->fate) ? kRemoteError : error.what();
  }
  block(stream, lock, [&] {
    if (comm.gone || !comm.error.empty()) return comm.gone;
    try {
      bool done = true;
      for (const auto& work : works) done = work->test() && done;   // each, since a receive answers in it
      return done;
    } catch (const CommError& error) {
      comm.error = failed(*comm.clique->fate) ? kRemoteError : error.what();
      return false;
    }
  });
  if (dead_ && comm.clique->fate) comm.clique->fate->fail();   // or the works would wait
}

void DeviceDouble::all_reduce(NcclComm comm, void* data, std::int64_t count, DType dtype, ReduceOp op, Stream stream) {
  const Lock lock(mutex_);
  require_memory(data, count * static_cast<std::int64_t>(size_of(dtype)), false, "an all_reduce");
  add_call(comm, stream, [=](Communicator& channel) { return channel.start_all_reduce(data, count, dtype, op); });
}

void DeviceDouble::broadcast(NcclComm comm, void* data, std::int64_t bytes, int root, Stream stream) {
  const Lock lock(mutex_);
  require_memory(data, bytes, false, "a broadcast");
  add_call(comm, stream, [=](Communicator& channel) { return channel.start_broadcast(data, bytes, root); });
}

void DeviceDouble::all_gather(NcclComm comm, const void* mine, std::int64_t bytes, void* all, Stream stream) {
  const Lock lock(mutex_);
  require_memory(mine, bytes, false, "an all_gather");
  require_memory(all, bytes * state_of(comm).clique->size, false, "an all_gather");
  add_call(comm, stream, [=](Communicator& channel) { return channel.start_all_gather(mine, bytes, all); });
}

void DeviceDouble::send(NcclComm comm, const void* data, std::int64_t bytes, int to, Stream stream) {
  const Lock lock(mutex_);
  require_memory(data, bytes, false, "a send");
  add_call(comm, stream, [=](Communicator& channel) { return std::make_unique<AcknowledgedSend>(channel, data, bytes, to); });
}

void DeviceDouble::receive(NcclComm comm, void* data, std::int64_t bytes, int from, Stream stream) {
  const Lock lock(mutex_);
  require_memory(data, bytes, false, "a receive");
  add_call(comm, stream, [=](Communicator& channel) { return std::make_unique<AcknowledgingReceive>(channel, data, bytes, from); });
}

}  // namespace tugline
