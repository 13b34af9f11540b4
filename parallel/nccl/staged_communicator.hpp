// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tugline/parallel/forwarding_communicator.hpp"
#include "tugline/parallel/nccl/nccl_options.hpp"
#include "tugline/parallel/ring/progress_thread.hpp"

namespace tugline {

struct StagedOptions {
  int device = 0;
  CurrentStream current_stream;
  std::int64_t segment_bytes = 4 << 20;   ///< of each of the two pinned buffers
};

/// Ranks with a device each, whose other communicator knows only memory of the host: MPI that was not built for CUDA. What is on the
/// device travels in segments through two pinned buffers, so that one is copied while the other is sent. What is on the host goes to the
/// other communicator as it is; tags and probe() are its own, and a message may begin on a device and end on a host.
///
/// The order of streams holds as in work.hpp, but a device cannot wait for MPI: wait() blocks the host until the result is on its way back
/// to the device, and start_send() until the message has left it. Failures are those of the other communicator. Thread level as of any
/// Communicator.
class StagedCommunicator final : public ForwardingCommunicator {
 public:
  /// Collective.
  StagedCommunicator(std::unique_ptr<Communicator> inner, std::shared_ptr<DeviceApi> api, StagedOptions options);
  ~StagedCommunicator() override;

  std::string backend() const override { return "staged over " + ForwardingCommunicator::backend(); }
  bool takes_device_memory() const override { return true; }
  std::unique_ptr<Work> start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) override;
  std::unique_ptr<Work> start_broadcast(void* data, std::int64_t bytes, int root) override;
  std::unique_ptr<Work> start_all_gather(const void* mine, std::int64_t bytes, void* all) override;
  std::unique_ptr<Work> start_send(const void* data, std::int64_t bytes, int to, int tag) override;
  std::unique_ptr<Work> start_receive(void* data, std::int64_t bytes, int from, int tag) override;

 private:
  class Road;
  class Receipt;
  class Transfer;
  class StagedWork;
  std::unique_ptr<Communicator> wrap(std::unique_ptr<Communicator> part) override;
  std::unique_ptr<Work> start(std::unique_ptr<Transfer> transfer);
  bool on_device(const void* data, std::int64_t bytes) { return bytes > 0 && api_->on_device(data); }

  std::shared_ptr<DeviceApi> api_;
  StagedOptions options_;
  std::unique_ptr<Communicator> channel_;   // for collectives of the device, made by whoever advances them
  std::shared_ptr<Road> road_;
  ProgressThread progress_;
};

}  // namespace tugline
