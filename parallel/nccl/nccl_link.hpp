// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tugline/parallel/nccl/device_handles.hpp"
#include "tugline/parallel/nccl/nccl_options.hpp"
#include "tugline/parallel/work.hpp"

namespace tugline::nccl {

/// One rank's end of an NCCL communicator: its stream, what is under way on it, and a thread that looks whether that fails or takes too
/// long. The first failure aborts the communicator, so that no stream waits for ever; every later call throws CommError with that failure.
/// Calls come from one thread at a time; cancel() from any.
class Link : public std::enable_shared_from_this<Link> {
 public:
  /// Call init() or let split() make one.
  Link(std::shared_ptr<DeviceApi> api, const NcclOptions& options, int rank, int size);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  void init(const NcclId& id);                                            ///< collective
  /// Collective. color < 0: null. `rank` and `size` of the new one; `rank` is its key too.
  std::shared_ptr<Link> split(int color, int rank, int size);

  using Call = std::function<void(DeviceApi&, NcclComm, Stream)>;
  /// Queues `call`, one of the API's collectives. `name` is for messages: "all_reduce of 7 float32".
  std::unique_ptr<Work> start(std::string name, const Call& call);
  /// For send and receive: `call` is held back until such work is waited for or tested, or start(), split() or close() comes. All that is
  /// held back then goes as one group, so ranks that first send and then receive do not wait for each other.
  std::unique_ptr<Work> start_later(std::string name, Call call);

  void cancel(const std::string& why) noexcept;
  void require_alive(const std::string& name);
  /// Finalize, destroy, stream. What is under way is finished first, within the time limit; after a failure it is already gone.
  void close() noexcept;

 private:
  struct Operation;
  class StreamWork;
  using Lock = std::unique_lock<std::mutex>;

  std::shared_ptr<Operation> prepare(std::string name);
  void launch(Lock& lock, const std::vector<std::shared_ptr<Operation>>& operations, const Call& call);
  void flush(Lock& lock);
  void settle(Lock& lock, const std::string& name, double seconds);
  void require_alive_locked(const std::string& name) const;
  void fail(const std::string& name, const std::string& why) noexcept;
  Stream current_stream() const;
  void watch();
  void look();

  const std::shared_ptr<DeviceApi> api_;
  const NcclOptions options_;
  const int rank_, size_;

  std::mutex mutex_;   // never held while waiting for another rank
  std::condition_variable wake_;
  NcclComm comm_ = nullptr;
  OwnedStream stream_;
  std::string failure_;
  std::deque<std::shared_ptr<Operation>> under_way_;    // in the order of the stream
  std::vector<std::shared_ptr<Operation>> held_back_;
  bool closed_ = false;
  std::thread watch_;
};

}  // namespace tugline::nccl
