// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace tugline {

/// One piece of work at a time, on a thread of its own that lives as long as this. start() and wait() come from one thread.
class BackgroundJob {
 public:
  BackgroundJob() = default;
  /// Waits; what the job threw is lost.
  ~BackgroundJob();
  BackgroundJob(const BackgroundJob&) = delete;
  BackgroundJob& operator=(const BackgroundJob&) = delete;

  /// Waits for the job before, and throws what that threw; then nothing is started.
  void start(std::function<void()> job);
  /// A job has ended with an exception that nobody has taken yet.
  bool failed() const { return failed_.load(); }
  /// Until nothing is under way; throws what the job threw, once.
  void wait();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> job_;        // under way, or to be
  std::exception_ptr error_;
  std::atomic<bool> failed_{false};  // error_ is there
  bool stop_ = false;
  std::thread thread_;               // from the first start() on
};

}  // namespace tugline
