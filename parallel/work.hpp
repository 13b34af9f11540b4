// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

namespace tugline {

/// A communication under way. The buffers given to the call that made it must stay untouched until it is done.
///
///     std::unique_ptr<Work> work = communicator.all_reduce(data, count, DType::float32, ReduceOp::sum);
///     compute_something_else();
///     work->wait();          // now `data` holds the sum
///
/// Used by the thread that started it. Destroying unfinished work waits for it.
class Work {
 public:
  virtual ~Work() = default;
  /// True when done; makes progress, never blocks. Throws CommError when the communication failed.
  virtual bool test() = 0;
  virtual void wait() = 0;
};

}  // namespace tugline
