// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "tugline/parallel/forwarding_communicator.hpp"
#include "tugline/parallel/nccl/nccl_options.hpp"

namespace tugline {

namespace nccl {
class Link;
}

/// Ranks with one device each. Memory of the device goes over NCCL, in the order of streams (work.hpp); memory of the host goes over a
/// duplicate of the control communicator that it was made from, and behaves as there: so do barrier(), probe() and the blocking forms that
/// take a value or a text. Which of the two a buffer is must be the same on all ranks.
///
/// On the device:
/// - Tags are ignored. The n-th receive from a rank gets the n-th message of that rank, which must be exactly as long. Sends and receives
///   are held back until one of them is waited for or tested or a collective starts, and then start together; ranks may all send first.
///   probe() does not see them.
/// - Sums of bfloat16 and float16 are rounded at each partial sum, not once. All ranks get the same bits.
/// - Two communicators with work under way at the same time may wait for each other's place on the device: wait() in between.
///
/// A failure of any rank, or an operation that takes longer than NcclOptions say, aborts the communicator on this rank: what waits for it
/// on a stream goes on, with undefined data, and this and every later call throws CommError that names operation, rank and cause. Thread
/// level as of any Communicator; cancel() from any thread.
class NcclCommunicator final : public ForwardingCommunicator {
 public:
  NcclCommunicator(std::shared_ptr<nccl::Link> link, std::unique_ptr<Communicator> host, std::shared_ptr<DeviceApi> api);
  /// Finishes what is under way, within the time limit. Collective, but does not wait for a rank that is gone longer than that.
  ~NcclCommunicator() override;

  std::string backend() const override { return "nccl"; }
  bool takes_device_memory() const override { return true; }
  std::unique_ptr<Work> start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) override;
  std::unique_ptr<Work> start_broadcast(void* data, std::int64_t bytes, int root) override;
  std::unique_ptr<Work> start_all_gather(const void* mine, std::int64_t bytes, void* all) override;
  void barrier() override;   ///< of the hosts: work on the devices goes on
  std::unique_ptr<Work> start_send(const void* data, std::int64_t bytes, int to, int tag) override;
  std::unique_ptr<Work> start_receive(void* data, std::int64_t bytes, int from, int tag) override;
  std::optional<Incoming> probe(int from, int tag) override;
  std::unique_ptr<Communicator> split(int color, int key) override;
  std::unique_ptr<Communicator> duplicate() override;

  /// Aborts what is under way on this rank; `why` stands in what later calls throw. For a watchdog.
  void cancel(const std::string& why) noexcept;

 private:
  bool on_device(const void* data, std::int64_t bytes, const std::string& name);

  std::shared_ptr<DeviceApi> api_;
  std::shared_ptr<nccl::Link> link_;   // goes first
};

/// Collective over `control`, of which it keeps a duplicate. When a rank cannot join, all throw the same AgreedError: at once when NCCL
/// refuses on all, after init_seconds when it refuses on some.
std::unique_ptr<NcclCommunicator> make_nccl_communicator(Communicator& control, std::shared_ptr<DeviceApi> api, const NcclOptions& options);

}  // namespace tugline
