// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/nccl/nccl_link.hpp"

#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"

namespace tugline::nccl {
namespace {

constexpr std::chrono::microseconds kPause{50};   // between two questions to a call that goes on in the background

constexpr const char* kAdvice =
    "see what each rank did last (tugline status, the ranks' logs, NCCL_DEBUG=WARN), then start the job again from its last checkpoint";

/// Makes the API's calls in `body` one launch.
void in_group(DeviceApi& api, const std::function<void()>& body) {
  api.group_start();
  try {
    body();
  } catch (...) {   // a group left open would swallow every later call of this thread
    try {
      api.group_end();
    } catch (const CommError&) {
    }
    throw;
  }
  api.group_end();
}

}  // namespace

struct Link::Operation {
  std::string name;
  Call call;               // while it is held back
  OwnedEvent ready, done;  // the caller's stream has come to it; it is over
  bool launched = false;
  double since = -1;       // seconds; from when its time counts, -1: not yet
};

class Link::StreamWork final : public Work {
 public:
  StreamWork(std::shared_ptr<Link> link, std::shared_ptr<Operation> operation) : link_(std::move(link)), operation_(std::move(operation)) {}
  ~StreamWork() override {
    try {
      queue_behind();
    } catch (const std::exception& error) {
      log::warn("{}", error.what());
    }
  }
  bool test() override {
    come_to();
    return link_->api_->query(operation_->done.get());
  }
  void wait() override {
    come_to();
    queue_behind();
  }

 private:
  void come_to() {
    Lock lock(link_->mutex_);
    link_->require_alive_locked(operation_->name);
    if (!operation_->launched) link_->flush(lock);
  }
  /// Also without a throw after a failure: the stream's event is then recorded or never will be, and holds nobody up.
  void queue_behind() {
    Lock lock(link_->mutex_);
    if (!operation_->launched && link_->failure_.empty() && !link_->closed_) link_->flush(lock);
    if (std::exchange(queued_, true)) return;
    link_->api_->set_device(link_->options_.device);
    link_->api_->stream_wait(link_->current_stream(), operation_->done.get());
  }

  std::shared_ptr<Link> link_;
  std::shared_ptr<Operation> operation_;
  bool queued_ = false;
};

Link::Link(std::shared_ptr<DeviceApi> api, const NcclOptions& options, int rank, int size)
    : api_(std::move(api)), options_(options), rank_(rank), size_(size) {
  api_->set_device(options_.device);
  stream_ = make_stream(api_);
}

Link::~Link() { close(); }

Stream Link::current_stream() const { return options_.current_stream ? options_.current_stream() : nullptr; }

void Link::init(const NcclId& id) {
  Lock lock(mutex_);
  api_->set_device(options_.device);
  try {
    api_->nccl_init(comm_, id, rank_, size_);
  } catch (const CommError& error) {
    fail("init", error.what());
  }
  settle(lock, "init", options_.init_seconds);
}

std::shared_ptr<Link> Link::split(int color, int rank, int size) {
  auto child = color < 0 ? nullptr : std::make_shared<Link>(api_, options_, rank, size);
  NcclComm none = nullptr;
  {
    Lock lock(mutex_);
    require_alive_locked("split");
    flush(lock);
    api_->set_device(options_.device);
    try {
      api_->nccl_split(comm_, child ? color : -1, rank, child ? child->comm_ : none);
    } catch (const CommError& error) {
      fail("split", error.what());
    }
    settle(lock, "split", options_.init_seconds);
  }
  if (child) {
    Lock lock(child->mutex_);
    child->settle(lock, "split", options_.init_seconds);
  }
  return child;
}

/// Under the lock. Whatever the caller's stream holds comes before the operation.
std::shared_ptr<Link::Operation> Link::prepare(std::string name) {
  auto operation = std::make_shared<Operation>();
  api_->set_device(options_.device);
  operation->name = std::move(name);
  operation->ready = make_event(api_);
  operation->done = make_event(api_);
  api_->record(operation->ready.get(), current_stream());
  api_->stream_wait(stream_.get(), operation->ready.get());
  return operation;
}

std::unique_ptr<Work> Link::start(std::string name, const Call& call) {
  Lock lock(mutex_);
  require_alive_locked(name);
  flush(lock);
  auto operation = prepare(std::move(name));
  launch(lock, {operation}, call);
  return std::make_unique<StreamWork>(shared_from_this(), std::move(operation));
}

std::unique_ptr<Work> Link::start_later(std::string name, Call call) {
  const Lock lock(mutex_);
  require_alive_locked(name);
  auto operation = prepare(std::move(name));
  operation->call = std::move(call);
  held_back_.push_back(operation);
  return std::make_unique<StreamWork>(shared_from_this(), std::move(operation));
}

void Link::flush(Lock& lock) {
  if (held_back_.empty()) return;
  const auto operations = std::exchange(held_back_, {});
  launch(lock, operations, [&](DeviceApi& api, NcclComm comm, Stream stream) {
    in_group(api, [&] {
      for (const auto& operation : operations) operation->call(api, comm, stream);
    });
  });
}

void Link::launch(Lock& lock, const std::vector<std::shared_ptr<Operation>>& operations, const Call& call) {
  const std::string& name = operations.front()->name;
  api_->set_device(options_.device);
  try {
    call(*api_, comm_, stream_.get());
  } catch (const CommError& error) {
    fail(name, error.what());
  }
  settle(lock, name, options_.operation_seconds);   // before that nothing is on the stream, and the events would come too early
  for (const auto& operation : operations) {
    api_->record(operation->done.get(), stream_.get());
    operation->launched = true;
    under_way_.push_back(operation);
  }
  if (!watch_.joinable()) watch_ = std::thread([this] { watch(); });
  wake_.notify_all();
}

/// Until the call on the communicator that was just made is no longer in progress. Lets go of the lock in between.
void Link::settle(Lock& lock, const std::string& name, double seconds) {
  const double begin = options_.clock->seconds();
  for (;;) {
    require_alive_locked(name);
    try {
      const NcclStatus status = api_->nccl_status(comm_);
      if (status.state == NcclStatus::State::ok) return;
      if (status.state == NcclStatus::State::failed) {
        fail(name, status.what);
      } else if (options_.clock->seconds() - begin > seconds) {
        fail(name, fmt::format("still in progress after {} s", seconds));
      }
    } catch (const CommError& error) {
      fail(name, error.what());
    }
    lock.unlock();
    std::this_thread::sleep_for(kPause);
    lock.lock();
  }
}

void Link::require_alive(const std::string& name) {
  const Lock lock(mutex_);
  require_alive_locked(name);
}

void Link::require_alive_locked(const std::string& name) const {
  if (!failure_.empty()) throw CommError(fmt::format("rank {} of {}, {}: {}", rank_, size_, name, failure_));
}

/// Under the lock. Keeps the first failure, and ends what is on the device.
void Link::fail(const std::string& name, const std::string& why) noexcept {
  if (!failure_.empty()) return;
  failure_ = fmt::format("NCCL was aborted on this rank ({}: {}); {}", name, why, kAdvice);
  log::error("rank {} of {}: {}", rank_, size_, failure_);
  if (comm_ != nullptr) api_->nccl_abort(comm_);
  comm_ = nullptr;
  under_way_.clear();
  held_back_.clear();
  wake_.notify_all();
}

void Link::cancel(const std::string& why) noexcept {
  const Lock lock(mutex_);
  if (closed_) return;
  fail(under_way_.empty() ? "nothing under way" : under_way_.front()->name + " under way", why);
}

void Link::watch() {
  Lock lock(mutex_);
  const auto pause = std::chrono::duration<double>(options_.look_seconds);
  bool on_device = false;
  while (!closed_ && failure_.empty()) {
    if (under_way_.empty()) {
      wake_.wait(lock);
      continue;
    }
    try {
      if (!std::exchange(on_device, true)) api_->set_device(options_.device);
      look();
    } catch (const CommError& error) {
      fail(under_way_.front()->name, error.what());
    }
    wake_.wait_for(lock, pause);
  }
}

/// Under the lock, with something under way.
void Link::look() {
  const NcclStatus status = api_->nccl_status(comm_);
  if (status.state == NcclStatus::State::failed) return fail(under_way_.front()->name, status.what);
  while (!under_way_.empty() && api_->query(under_way_.front()->done.get())) under_way_.pop_front();
  if (under_way_.empty()) return;
  Operation& oldest = *under_way_.front();
  const double now = options_.clock->seconds();
  if (oldest.since < 0) {
    if (api_->query(oldest.ready.get())) oldest.since = now;
  } else if (now - oldest.since > options_.operation_seconds) {
    fail(oldest.name, fmt::format("not done after {} s", options_.operation_seconds));
  }
}

void Link::close() noexcept {
  {
    Lock lock(mutex_);
    if (closed_) return;
    try {
      api_->set_device(options_.device);
      if (failure_.empty() && comm_ != nullptr) {
        flush(lock);
        api_->nccl_finalize(comm_);
        settle(lock, "finalize", options_.operation_seconds);
        api_->nccl_destroy(comm_);
        comm_ = nullptr;
      }
    } catch (const std::exception& error) {
      fail("finalize", error.what());
    }
    closed_ = true;
    under_way_.clear();
    wake_.notify_all();
  }
  if (watch_.joinable()) watch_.join();
  stream_ = {};
}

}  // namespace tugline::nccl
