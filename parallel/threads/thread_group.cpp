// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/threads/thread_group.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/parallel/reduce.hpp"

namespace tugline::threads {

void Fate::fail() {
  const std::lock_guard<std::mutex> lock(mutex);
  failed = true;
  changed.notify_all();
}

void Fate::leave(int rank) {
  const std::lock_guard<std::mutex> lock(mutex);
  left[static_cast<std::size_t>(rank)] = true;
  changed.notify_all();
}

namespace {

using Lock = std::unique_lock<std::mutex>;

/// The member that will never come to `operation`; -1: all may. With the lock held.
int missing_for_ever(const Group& group, const Operation& operation) {
  for (int r = 0; r < group.size(); ++r) {
    const auto i = static_cast<std::size_t>(r);
    if (!operation.arrived[i] && group.fate->left[static_cast<std::size_t>(group.members[i])]) return r;
  }
  return -1;
}

class CollectiveWork final : public Work {
 public:
  CollectiveWork(std::shared_ptr<Group> group, std::shared_ptr<Operation> operation)
      : group_(std::move(group)), operation_(std::move(operation)) {}
  ~CollectiveWork() override {
    Lock lock(group_->fate->mutex);
    settle(lock);
  }
  bool test() override {
    const Lock lock(group_->fate->mutex);
    if (!operation_->executing) require_hope();
    return operation_->done;
  }
  void wait() override {
    Lock lock(group_->fate->mutex);
    settle(lock);
    if (!operation_->done) require_hope();
  }

 private:
  /// Until it is done or never will be. Then no rank touches this one's buffers any more.
  void settle(Lock& lock) {
    group_->fate->changed.wait(lock, [&] { return operation_->done || (!operation_->executing && hopeless()); });
    if (!operation_->done) operation_->broken = true;
  }
  bool hopeless() const {
    return operation_->broken || group_->fate->failed || missing_for_ever(*group_, *operation_) >= 0;
  }
  void require_hope() const {
    if (operation_->done || !hopeless()) return;
    const int missing = missing_for_ever(*group_, *operation_);
    throw CommError(missing >= 0 ? fmt::format("{}: rank {} has left", operation_->name, missing)
                                 : fmt::format("{}: another rank has failed", operation_->name));
  }

  std::shared_ptr<Group> group_;
  std::shared_ptr<Operation> operation_;
};

class ReceiveWork final : public Work {
 public:
  ReceiveWork(std::shared_ptr<Group> group, std::shared_ptr<PostedReceive> posted, std::tuple<int, int, int> key)
      : group_(std::move(group)), posted_(std::move(posted)), key_(key) {}
  ~ReceiveWork() override {
    Lock lock(group_->fate->mutex);
    settle(lock);
  }
  bool test() override {
    const Lock lock(group_->fate->mutex);
    require_hope();
    return posted_->done;
  }
  void wait() override {
    Lock lock(group_->fate->mutex);
    settle(lock);
    require_hope();
  }

 private:
  bool hopeless() const {
    const int from = group_->members[static_cast<std::size_t>(std::get<0>(key_))];
    return group_->fate->failed || group_->fate->left[static_cast<std::size_t>(from)];
  }
  /// A receive that was given up must not be written to later.
  void settle(Lock& lock) {
    group_->fate->changed.wait(lock, [&] { return posted_->done || hopeless(); });
    if (!posted_->done) std::erase(group_->channels[key_].receives, posted_);
  }
  void require_hope() const {
    if (posted_->too_long) throw CommError(fmt::format("receive from rank {}: the message is longer than the buffer", std::get<0>(key_)));
    if (!posted_->done && hopeless()) throw CommError(fmt::format("receive from rank {}: it has left or failed", std::get<0>(key_)));
  }

  std::shared_ptr<Group> group_;
  std::shared_ptr<PostedReceive> posted_;
  std::tuple<int, int, int> key_;
};

class DoneWork final : public Work {
 public:
  bool test() override { return true; }
  void wait() override {}
};

void deliver(const Message& message, PostedReceive& receive) {
  const auto bytes = static_cast<std::int64_t>(message.bytes.size());
  receive.too_long = bytes > receive.capacity_bytes;
  if (!receive.too_long && bytes > 0) std::memcpy(receive.data, message.bytes.data(), message.bytes.size());
  receive.done = true;
}

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, int rank) : group_(std::move(group)), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return group_->size(); }
  std::string backend() const override { return "threads"; }

  std::unique_ptr<Work> start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) override {
    return join(fmt::format("all_reduce of {} {}, {}", count, name_of(dtype), static_cast<int>(op)), data, nullptr,
                [count, dtype, op](Operation& operation) {
                  if (count == 0) return;
                  const std::vector<const void*> in(operation.buffers.begin(), operation.buffers.end());
                  reduce(in, operation.buffers[0], count, dtype, op);
                  copy_to_all(operation, 0, static_cast<std::size_t>(count) * size_of(dtype));
                });
  }
  std::unique_ptr<Work> start_broadcast(void* data, std::int64_t bytes, int root) override {
    return join(fmt::format("broadcast of {} bytes from rank {}", bytes, root), data, nullptr, [bytes, root](Operation& operation) {
      copy_to_all(operation, static_cast<std::size_t>(root), static_cast<std::size_t>(bytes));
    });
  }
  std::unique_ptr<Work> start_all_gather(const void* mine, std::int64_t bytes, void* all) override {
    return join(fmt::format("all_gather of {} bytes", bytes), all, mine, [bytes](Operation& operation) {
      for (void* all_of_one : operation.buffers) {
        for (std::size_t r = 0; r < operation.inputs.size() && bytes > 0; ++r) {
          std::memcpy(static_cast<char*>(all_of_one) + static_cast<std::int64_t>(r) * bytes, operation.inputs[r],
                      static_cast<std::size_t>(bytes));
        }
      }
    });
  }
  void barrier() override {
    join("barrier", nullptr, nullptr, [](Operation&) {})->wait();
  }

  std::unique_ptr<Work> start_send(const void* data, std::int64_t bytes, int to, int tag) override {
    const auto* begin = static_cast<const char*>(data);
    Message message{std::vector<char>(begin, begin + bytes)};
    const Lock lock(group_->fate->mutex);
    if (group_->fate->failed) throw CommError(fmt::format("send to rank {}: another rank has failed", to));
    Channel& channel = group_->channels[{rank_, to, tag}];
    if (channel.receives.empty()) {
      channel.messages.push_back(std::move(message));
    } else {
      deliver(message, *channel.receives.front());
      channel.receives.pop_front();
    }
    group_->fate->changed.notify_all();
    return std::make_unique<DoneWork>();
  }
  std::unique_ptr<Work> start_receive(void* data, std::int64_t bytes, int from, int tag) override {
    auto posted = std::make_shared<PostedReceive>(PostedReceive{data, bytes});
    const std::tuple<int, int, int> key{from, rank_, tag};
    const Lock lock(group_->fate->mutex);
    Channel& channel = group_->channels[key];
    if (channel.messages.empty()) {
      channel.receives.push_back(posted);
    } else {
      deliver(channel.messages.front(), *posted);
      channel.messages.pop_front();
    }
    return std::make_unique<ReceiveWork>(group_, std::move(posted), key);
  }
  std::optional<Incoming> probe(int from, int tag) override {
    const Lock lock(group_->fate->mutex);
    for (int r = std::max(from, 0); r < (from < 0 ? size() : from + 1); ++r) {
      const auto channel = group_->channels.find({r, rank_, tag});
      if (channel == group_->channels.end() || channel->second.messages.empty()) continue;
      return Incoming{r, static_cast<std::int64_t>(channel->second.messages.front().bytes.size())};
    }
    if (group_->fate->failed) throw CommError("probe: another rank has failed");
    return std::nullopt;
  }

  std::unique_ptr<Communicator> split(int color, int key) override;
  std::unique_ptr<Communicator> duplicate() override { return split(0, rank_); }
  [[noreturn]] void abort(int exit_code) noexcept override { std::_Exit(exit_code); }

 private:
  static void copy_to_all(Operation& operation, std::size_t from, std::size_t bytes) {
    if (bytes == 0) return;
    for (std::size_t r = 0; r < operation.buffers.size(); ++r) {
      if (r != from) std::memcpy(operation.buffers[r], operation.buffers[from], bytes);
    }
  }
  std::unique_ptr<Work> join(std::string name, void* buffer, const void* input, const std::function<void(Operation&)>& execute);

  std::shared_ptr<Group> group_;
  int rank_;
  std::uint64_t collectives_ = 0;   // made by this rank so far
};

std::unique_ptr<Work> ThreadCommunicator::join(std::string name, void* buffer, const void* input,
                                               const std::function<void(Operation&)>& execute) {
  const auto me = static_cast<std::size_t>(rank_);
  Lock lock(group_->fate->mutex);
  if (group_->fate->failed) throw CommError(name + ": another rank has failed");
  std::shared_ptr<Operation>& slot = group_->open[collectives_];
  if (!slot) {
    slot = std::make_shared<Operation>();
    slot->name = name;
    slot->buffers.resize(group_->members.size());
    slot->inputs.resize(group_->members.size());
    slot->arrived.resize(group_->members.size());
  }
  const std::shared_ptr<Operation> operation = slot;
  if (operation->broken) throw CommError(name + ": another rank has given up waiting for it");
  if (operation->name != name) {
    operation->broken = true;
    group_->fate->changed.notify_all();
    throw CommError(fmt::format("collectives do not match: rank {} calls {}, another rank {}", rank_, name, operation->name));
  }
  operation->buffers[me] = buffer;
  operation->inputs[me] = input;
  operation->arrived[me] = true;
  if (++operation->num_arrived == group_->size()) {
    group_->open.erase(collectives_);
    operation->executing = true;
    lock.unlock();
    try {
      execute(*operation);
    } catch (...) {   // out of memory: the others must not wait for it
      lock.lock();
      operation->executing = false;
      operation->broken = true;
      group_->fate->changed.notify_all();
      throw;
    }
    lock.lock();
    operation->done = true;
    group_->fate->changed.notify_all();
  }
  ++collectives_;
  return std::make_unique<CollectiveWork>(group_, operation);
}

std::unique_ptr<Communicator> ThreadCommunicator::split(int color, int key) {
  struct Wish {
    int color, key;
    std::shared_ptr<Group> group;
    int rank = -1;
  } wish{color, key, nullptr};
  const auto execute = [this](Operation& operation) {
    std::map<int, std::vector<int>> ranks_of_color;
    const auto wish_of = [&](int r) { return static_cast<Wish*>(operation.buffers[static_cast<std::size_t>(r)]); };
    for (int r = 0; r < size(); ++r) {
      if (wish_of(r)->color >= 0) ranks_of_color[wish_of(r)->color].push_back(r);
    }
    for (auto& [_, ranks] : ranks_of_color) {
      std::stable_sort(ranks.begin(), ranks.end(), [&](int a, int b) { return wish_of(a)->key < wish_of(b)->key; });
      auto group = std::make_shared<Group>();
      group->fate = group_->fate;
      for (const int r : ranks) {
        wish_of(r)->group = group;
        wish_of(r)->rank = group->size();
        group->members.push_back(group_->members[static_cast<std::size_t>(r)]);
      }
    }
  };
  join("split", &wish, nullptr, execute)->wait();
  if (!wish.group) return nullptr;
  return std::make_unique<ThreadCommunicator>(wish.group, wish.rank);
}

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_team(std::shared_ptr<Fate> fate) {
  auto group = std::make_shared<Group>();
  group->members.resize(fate->left.size());
  std::iota(group->members.begin(), group->members.end(), 0);
  group->fate = std::move(fate);
  std::vector<std::unique_ptr<Communicator>> team;
  for (int rank = 0; rank < group->size(); ++rank) team.push_back(std::make_unique<ThreadCommunicator>(group, rank));
  return team;
}

}  // namespace tugline::threads
