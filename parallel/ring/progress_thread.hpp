// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "tugline/parallel/work.hpp"

namespace tugline {

/// Communication that goes on in small steps, none of which blocks.
class Errand {
 public:
  virtual ~Errand() = default;
  /// Does what can be done now; true when something moved. May throw, and is then over.
  virtual bool advance() = 0;
  virtual bool finished() const = 0;
};

/// Runs errands while the rank computes: MPI moves data only inside its calls. Errands advance one at a time, either on this object's own
/// thread or, while somebody waits, on the waiting one, so that the two never compete for a core. The thread starts with the first errand.
class ProgressThread {
 public:
  ProgressThread() = default;
  /// All works must be gone.
  ~ProgressThread();
  ProgressThread(const ProgressThread&) = delete;
  ProgressThread& operator=(const ProgressThread&) = delete;

  /// The oldest few errands move, in the order in which they started; the others wait for them. The result must not outlive this object; its wait() throws what advance()
  /// threw.
  std::unique_ptr<Work> start(std::shared_ptr<Errand> errand);

 private:
  struct Entry;
  class Waiting;
  void run();
  bool advance_all();
  void wait(Entry& entry);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::list<std::shared_ptr<Entry>> entries_;   // not yet over
  int waiting_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace tugline
