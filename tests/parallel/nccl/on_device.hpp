// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tugline/parallel/forwarding_communicator.hpp"
#include "tugline/parallel/nccl/nccl_options.hpp"
#include "tugline/tests/parallel/conformance.hpp"
#include "tugline/tests/support/device_double.hpp"

namespace tugline {

/// A communicator of devices as one of hosts: copies each buffer to the device, lets `inner` work on it, and copies it back when it is
/// waited for. With it, cases that know only memory of the host run on the device.
class OnDevice final : public ForwardingCommunicator {
 public:
  OnDevice(std::unique_ptr<Communicator> inner, std::shared_ptr<DeviceApi> api, CurrentStream current_stream)
      : ForwardingCommunicator(std::move(inner)), api_(std::move(api)), current_stream_(std::move(current_stream)) {}

  bool takes_device_memory() const override { return false; }   // it reads and writes on the host
  std::unique_ptr<Work> start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) override;
  std::unique_ptr<Work> start_broadcast(void* data, std::int64_t bytes, int root) override;
  std::unique_ptr<Work> start_all_gather(const void* mine, std::int64_t bytes, void* all) override;
  std::unique_ptr<Work> start_send(const void* data, std::int64_t bytes, int to, int tag) override;
  std::unique_ptr<Work> start_receive(void* data, std::int64_t bytes, int from, int tag) override;

 private:
  std::unique_ptr<Communicator> wrap(std::unique_ptr<Communicator> part) override;
  class Buffer;
  class DownloadWork;
  std::shared_ptr<DeviceApi> api_;
  CurrentStream current_stream_;
};

/// A stream of `device` for each thread that asks, as LibTorch has: threads that share one make their communicators wait for each other.
/// Makes the device that thread's.
CurrentStream stream_of_each_thread(const std::shared_ptr<DeviceApi>& api, int device);

/// Without what NCCL has not: tags, probes, and sums of 16 bits that are rounded once.
std::vector<ConformanceCase> conformance_cases_of_nccl();

/// A rank with a device of its own, on a thread of its own.
struct DeviceRank {
  Communicator& control;
  std::shared_ptr<DeviceDouble> api;
  Stream stream;               ///< the one that it computes on
  NcclOptions options;         ///< with its device and that stream
};
/// Runs `body` on each rank of a team that uses `api`, which has a device for each. Then there must be no misuse, and nothing may be left;
/// but the staged communicator keeps what had failed.
enum class Leaves { nothing, what_failed };
void run_device_team(const std::shared_ptr<DeviceDouble>& api, int ranks, const std::function<void(DeviceRank&)>& body,
                     Leaves leaves = Leaves::nothing);

/// The name of a parametrised test.
inline std::string case_and_ranks(const testing::TestParamInfo<std::tuple<int, ConformanceCase>>& info) {
  return std::string(std::get<1>(info.param).name) + "_" + std::to_string(std::get<0>(info.param));
}

/// A clock turned by hand, or by one second at each look.
class TestClock final : public Clock {
 public:
  explicit TestClock(double seconds_per_look = 0) : step_(seconds_per_look) {}
  double seconds() const override {
    ++looks_;
    const std::lock_guard<std::mutex> lock(mutex_);
    return now_ += step_;
  }
  void turn(double seconds) {
    const std::lock_guard<std::mutex> lock(mutex_);
    now_ += seconds;
  }
  int looks() const { return looks_; }

 private:
  double step_;
  mutable std::mutex mutex_;
  mutable double now_ = 0;
  mutable std::atomic<int> looks_{0};
};

}  // namespace tugline
