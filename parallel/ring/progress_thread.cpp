// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/ring/progress_thread.hpp"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <utility>
#include <vector>

namespace tugline {
namespace {

// Between two looks that found nothing: long enough to leave the core to the computation, short against a segment's time on a wire.
constexpr std::chrono::microseconds kShortestPause{20}, kLongestPause{200};
constexpr int kActive = 4;   // enough to keep a link busy; what is early should also be done early

/// What an errand that failed has under way may never end, and destroying it would wait for that: it stays. The job is about to end.
void park(std::shared_ptr<Errand> errand) {
  static std::mutex mutex;
  static auto* const parked = new std::vector<std::shared_ptr<Errand>>;
  const std::lock_guard<std::mutex> lock(mutex);
  parked->push_back(std::move(errand));
}

}  // namespace

struct ProgressThread::Entry {
  std::shared_ptr<Errand> errand;
  std::exception_ptr error;          // written before `over`
  std::atomic<bool> over{false};
};

class ProgressThread::Waiting final : public Work {
 public:
  Waiting(ProgressThread& thread, std::shared_ptr<Entry> entry) : thread_(thread), entry_(std::move(entry)) {}
  ~Waiting() override { thread_.wait(*entry_); }
  bool test() override {
    if (!entry_->over.load(std::memory_order_acquire)) return false;
    if (entry_->error) std::rethrow_exception(entry_->error);
    return true;
  }
  void wait() override {
    thread_.wait(*entry_);
    test();
  }

 private:
  ProgressThread& thread_;
  std::shared_ptr<Entry> entry_;
};

ProgressThread::~ProgressThread() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

std::unique_ptr<Work> ProgressThread::start(std::shared_ptr<Errand> errand) {
  auto entry = std::make_shared<Entry>();
  entry->errand = std::move(errand);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    entries_.push_back(entry);
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  }
  wake_.notify_one();
  return std::make_unique<Waiting>(*this, std::move(entry));
}

/// Under the lock. True when something moved.
bool ProgressThread::advance_all() {
  bool moved = false;
  int active = 0;
  for (auto next = entries_.begin(); next != entries_.end() && active < kActive;) {
    Entry& entry = **next;
    bool over = false;
    try {
      moved = entry.errand->advance() || moved;
      over = entry.errand->finished();
    } catch (...) {
      entry.error = std::current_exception();
      over = true;
    }
    if (!over) {
      ++next;
      ++active;
      continue;
    }
    moved = true;
    if (entry.error) park(std::move(entry.errand));
    entry.errand.reset();
    const auto keeper = std::move(*next);   // the waiting thread may let go of it at once
    next = entries_.erase(next);
    keeper->over.store(true, std::memory_order_release);
  }
  return moved;
}

void ProgressThread::run() {
  auto pause = kShortestPause;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_) {
    if (entries_.empty() || waiting_ > 0) {
      wake_.wait(lock);
      pause = kShortestPause;
    } else if (advance_all()) {
      pause = kShortestPause;
      lock.unlock();
      sched_yield();
      lock.lock();
    } else {
      wake_.wait_for(lock, pause);
      pause = std::min(2 * pause, kLongestPause);
    }
  }
}

void ProgressThread::wait(Entry& entry) {
  if (entry.over.load(std::memory_order_acquire)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  ++waiting_;
  while (!entry.over.load(std::memory_order_acquire)) {
    if (advance_all()) continue;
    lock.unlock();
    sched_yield();
    lock.lock();
  }
  --waiting_;
  lock.unlock();
  wake_.notify_one();
}

}  // namespace tugline
