// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "tugline/parallel/async/range_desk.hpp"
#include "tugline/parallel/ring/progress_thread.hpp"

namespace tugline {

/// On one rank of each host: a thread with a RangeDesk, which looks for messages with pauses between, so that the core is left to
/// the computation.
class RangeServer {
 public:
  /// Everything outlives it. Serves at once.
  RangeServer(Communicator& channel, RangeAccess& ranges, RangeDesk::Options options);
  /// Where no worker has a request without an answer: after all have met. While an exception unwinds the stack, what is under way is given up.
  ~RangeServer();
  RangeServer(const RangeServer&) = delete;
  RangeServer& operator=(const RangeServer&) = delete;

  /// Throws what has ended the thread, if anything has. To be called now and then by this rank, since nobody is served then.
  void check();

 private:
  std::shared_ptr<RangeDesk> desk_;
  ProgressThread thread_;
  std::unique_ptr<Work> serving_;
  int exceptions_;   // that were under way when it began
};

}  // namespace tugline
