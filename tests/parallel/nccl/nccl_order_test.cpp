// SPDX-License-Identifier: Apache-2.0
// The order of streams, groups, messages. Gates hold streams up, so that what comes too early comes for certain.
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "tugline/core/error.hpp"
#include "tugline/parallel/nccl/device_handles.hpp"
#include "tugline/parallel/nccl/nccl_communicator.hpp"
#include "tugline/tests/parallel/nccl/on_device.hpp"

namespace tugline {
namespace {

constexpr int kRanks = 3, kSum = 0 + 1 + 2;

class NcclOrder : public testing::Test {
 protected:
  void run(const std::function<void(DeviceRank&, NcclCommunicator&)>& body, int ranks = kRanks) {
    run_device_team(api_, ranks, [&](DeviceRank& rank) { body(rank, *make_nccl_communicator(rank.control, rank.api, rank.options)); });
  }
  std::shared_ptr<DeviceDouble> api_ = std::make_shared<DeviceDouble>(kRanks);
};

/// `count` numbers on the device, which are for kernels of the double to touch.
struct Numbers {
  Numbers(const DeviceRank& rank, std::int64_t count, double value)
      : memory(make_memory(rank.api, count * 8)), data(static_cast<double*>(memory.get())) {
    rank.api->launch(rank.stream, [=, at = data] { std::fill(at, at + count, value); });
  }
  DeviceMemory memory;
  double* data;
};

TEST_F(NcclOrder, TheCollectiveSeesWhatTheCallersStreamHeld) {
  run([&](DeviceRank& rank, NcclCommunicator& communicator) {
    const Numbers numbers(rank, 1, -100);
    rank.api->wait_at(rank.stream, 1);
    rank.api->launch(rank.stream, [&] { numbers.data[0] = rank.options.device; });
    const auto work = communicator.start_all_reduce(numbers.data, 1, DType::float64, ReduceOp::sum);
    communicator.barrier();
    rank.api->wait_until_quiet();   // a collective that did not wait would now be over
    communicator.barrier();
    EXPECT_FALSE(work->test());
    communicator.barrier();
    rank.api->open(1);
    work->wait();
    rank.api->synchronize(rank.stream);
    EXPECT_EQ(numbers.data[0], kSum);
  });
}

TEST_F(NcclOrder, WhatComesAfterWaitSeesTheResultAndTheHostGoesOn) {
  run([&](DeviceRank& rank, NcclCommunicator& communicator) {
    const bool late = rank.options.device == 1;
    const Numbers numbers(rank, 1, rank.options.device);
    if (late) rank.api->wait_at(rank.stream, 1);   // so all wait for this rank's device
    const auto work = communicator.start_all_reduce(numbers.data, 1, DType::float64, ReduceOp::sum);
    work->wait();                                  // and yet the hosts come here
    double seen = -1;
    rank.api->launch(rank.stream, [&] { seen = numbers.data[0]; });
    communicator.barrier();
    rank.api->wait_until_quiet();   // a kernel that did not wait would now have read
    communicator.barrier();
    rank.api->open(1);
    rank.api->synchronize(rank.stream);
    EXPECT_EQ(seen, kSum);
    EXPECT_TRUE(work->test());
  });
}

TEST_F(NcclOrder, DestroyingWorkPutsTheStreamBehindIt) {
  run([&](DeviceRank& rank, NcclCommunicator& communicator) {
    const Numbers numbers(rank, 1, rank.options.device);
    if (rank.options.device == 1) rank.api->wait_at(rank.stream, 1);
    communicator.start_all_reduce(numbers.data, 1, DType::float64, ReduceOp::sum).reset();
    double seen = -1;
    rank.api->launch(rank.stream, [&] { seen = numbers.data[0]; });
    communicator.barrier();
    rank.api->wait_until_quiet();
    communicator.barrier();
    rank.api->open(1);
    rank.api->synchronize(rank.stream);
    EXPECT_EQ(seen, kSum);
  });
}

TEST_F(NcclOrder, TestSaysWhenItIsDone) {
  run([&](DeviceRank& rank, NcclCommunicator& communicator) {
    const Numbers numbers(rank, 1, rank.options.device);
    if (rank.options.device == 2) rank.api->wait_at(rank.stream, 1);
    const auto work = communicator.start_all_reduce(numbers.data, 1, DType::float64, ReduceOp::max);
    EXPECT_FALSE(work->test());
    communicator.barrier();
    rank.api->open(1);
    while (!work->test()) std::this_thread::yield();
    EXPECT_EQ(numbers.data[0], 2);
  });
}

/// In a ring, all sending first, several messages to each, whatever the tags.
TEST_F(NcclOrder, MessagesComeInOrderAndAllMaySendFirst) {
  for (int ranks = 1; ranks <= kRanks; ++ranks) {
    run([&](DeviceRank& rank, NcclCommunicator& communicator) {
      const int me = rank.options.device, right = (me + 1) % ranks, left = (me + ranks - 1) % ranks;
      const Numbers first(rank, 1, 10 * me), second(rank, 1, 10 * me + 1), from_left(rank, 2, -1);
      const auto sent = communicator.start_send(first.data, 8, right, 5);
      const auto sent_too = communicator.start_send(second.data, 8, right, 6);
      const auto received = communicator.start_receive(from_left.data, 8, left, 6);
      communicator.receive(from_left.data + 1, 8, left, 5);
      received->wait();
      sent->wait();
      sent_too->wait();
      rank.api->synchronize(rank.stream);
      EXPECT_EQ(from_left.data[0], 10 * left);
      EXPECT_EQ(from_left.data[1], 10 * left + 1);
    }, ranks);
  }
}

TEST_F(NcclOrder, ACollectiveSendsWhatWasHeldBack) {
  run([&](DeviceRank& rank, NcclCommunicator& communicator) {
    const Numbers numbers(rank, 2, rank.options.device);
    std::unique_ptr<Work> message;
    if (rank.options.device == 0) message = communicator.start_send(numbers.data, 8, 1, 0);
    if (rank.options.device == 1) message = communicator.start_receive(numbers.data, 8, 0, 0);
    communicator.all_reduce(numbers.data + 1, 1, DType::float64);
    if (message) message->wait();
    rank.api->synchronize(rank.stream);
    EXPECT_EQ(numbers.data[0], rank.options.device == 1 ? 0 : rank.options.device);
    EXPECT_EQ(numbers.data[1], kSum);
  });
}

TEST_F(NcclOrder, OneBufferOnTheDeviceAndOneOnTheHostIsAMistake) {
  run([&](DeviceRank& rank, NcclCommunicator& communicator) {
    const Numbers numbers(rank, 1, 0);
    double all[kRanks] = {};
    try {
      communicator.start_all_gather(numbers.data, 8, all);
      ADD_FAILURE();
    } catch (const CommError& error) {
      EXPECT_NE(std::string(error.what()).find(", all_gather of 8 bytes: "), std::string::npos) << error.what();
    }
    rank.api->synchronize(rank.stream);
  });
}

}  // namespace
}  // namespace tugline
