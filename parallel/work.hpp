// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

namespace tugline {

/// A communication under way. The buffers given to the call that made it must stay untouched until it is done.
///
///     std::unique_ptr<Work> work = communicator.start_all_reduce(data, count, DType::float32, ReduceOp::sum);
///     compute_something_else();
///     work->wait();          // now `data` holds the sum
///
/// Used by the thread that started it. Destroying unfinished work waits for it.
///
/// With memory of a device, all of this holds in the order of streams, and the host does not wait: the communication begins after what
/// the calling thread's current stream held when it was started, and wait() (or the destructor) makes the current stream wait for it. What
/// is queued on that stream later sees the result, and may write or free the buffers; the host sees it once it has synchronised the
/// stream. test() says whether it is done for the host too.
class Work {
 public:
  virtual ~Work() = default;
  /// True when done; makes progress, never blocks. Throws CommError when the communication failed.
  virtual bool test() = 0;
  virtual void wait() = 0;
};

}  // namespace tugline
