// SPDX-License-Identifier: Apache-2.0
// Failures that the double plants. Whatever happens, no rank waits for ever, and the message says where and why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/parallel/nccl/device_handles.hpp"
#include "tugline/parallel/nccl/nccl_communicator.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/parallel/nccl/on_device.hpp"

namespace tugline {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

constexpr int kRanks = 2;

class NcclFailure : public testing::TestWithParam<int> {
 protected:
  void run(const std::function<void(DeviceRank&)>& body, int ranks = kRanks) { run_device_team(api_, ranks, body); }
  std::shared_ptr<DeviceDouble> api_ = std::make_shared<DeviceDouble>(4);
};
INSTANTIATE_TEST_SUITE_P(Ranks, NcclFailure, testing::Values(1, 2, 3, 4));

template <typename Kind = CommError>
std::string told(const std::function<void()>& call) {
  try {
    call();
  } catch (const Kind& error) {
    return error.what();
  }
  return "nothing";
}

using Start = std::function<std::unique_ptr<Work>()>;

/// What the first call says that throws: the start, for a rank that comes late, or one after it. `work` is what was started, if it was.
std::string told_in_the_end(std::unique_ptr<Work>& work, const Start& start, const std::function<void()>& after_wait = [] {}) {
  return told([&] {
    work = start();
    work->wait();
    after_wait();
    for (;; std::this_thread::yield()) work->test();
  });
}

TEST_P(NcclFailure, AnAsyncErrorReachesAllRanksAndStays) {
  const int ranks = GetParam(), bad = ranks - 1;
  api_->plant(bad, DeviceDouble::Fault::remote_error);
  run([&](DeviceRank& rank) {
    const auto communicator = make_nccl_communicator(rank.control, rank.api, rank.options);
    const DeviceMemory memory = make_memory(rank.api, 28);
    std::unique_ptr<Work> work;
    const std::string text =
        told_in_the_end(work, [&] { return communicator->start_all_reduce(memory.get(), 7, DType::float32, ReduceOp::sum); });
    const auto place = "rank " + std::to_string(rank.options.device) + " of " + std::to_string(ranks);
    EXPECT_THAT(text, AllOf(HasSubstr(place + ", all_reduce of 7 float32: "),
                            HasSubstr("remote process exited"), HasSubstr("start the job again")));
    EXPECT_TRUE(!work || told([&] { work->wait(); }) == text);
    EXPECT_THAT(told([&] { communicator->broadcast(memory.get(), 28, 0); }),
                AllOf(HasSubstr("broadcast of 28 bytes"), HasSubstr("remote process")));
    EXPECT_THAT(told([&] { communicator->barrier(); }), HasSubstr("remote process"));
    EXPECT_THAT(told([&] { communicator->all_reduce(1.0); }), HasSubstr("remote process"));
    EXPECT_THAT(told([&] { communicator->duplicate(); }), HasSubstr(", split: "));
    EXPECT_THAT(told([&] { communicator->probe(-1, 0); }), HasSubstr(", probe: "));
    rank.api->synchronize(rank.stream);   // waits for nothing any more
  }, ranks);
}

/// The host waits for its stream, which waits for the collective: only another thread can see that it hangs.
TEST_P(NcclFailure, AHangEndsAfterItsTimeAndFreesTheStream) {
  const int ranks = GetParam();
  api_->plant(0, DeviceDouble::Fault::hang);
  run([&](DeviceRank& rank) {
    TestClock clock;
    rank.options.clock = &clock;
    rank.options.operation_seconds = 600;
    const auto communicator = make_nccl_communicator(rank.control, rank.api, rank.options);
    const DeviceMemory memory = make_memory(rank.api, 8);
    const auto let_time_pass = [&] {
      std::atomic<bool> freed{false};
      std::thread time([&] {
        for (; !freed; std::this_thread::yield()) clock.turn(601);
      });
      rank.api->synchronize(rank.stream);
      freed = true;
      time.join();
    };
    std::unique_ptr<Work> work;
    const Start start = [&] { return communicator->start_all_reduce(memory.get(), 1, DType::float64, ReduceOp::sum); };
    // Each by its own clock, or because another rank was first.
    EXPECT_THAT(told_in_the_end(work, start, let_time_pass), AllOf(HasSubstr(", all_reduce of 1 float64: "),
                                      testing::AnyOf(HasSubstr("not done after 600 s"), HasSubstr("remote process exited"))));
  }, ranks);
}

TEST_F(NcclFailure, TimeCountsFromWhenTheCallersStreamIsThere) {
  run([&](DeviceRank& rank) {
    TestClock clock;
    rank.options.clock = &clock;
    const auto communicator = make_nccl_communicator(rank.control, rank.api, rank.options);
    const DeviceMemory memory = make_memory(rank.api, 8);
    rank.api->wait_at(rank.stream, 1);
    const auto work = communicator->start_all_reduce(memory.get(), 1, DType::int64, ReduceOp::sum);
    for (int i = 0; i < 2; ++i) {
      clock.turn(100'000);
      for (const int looks = clock.looks() + 5; clock.looks() < looks;) EXPECT_FALSE(work->test());   // which throws after a failure
    }
    rank.control.barrier();
    rank.api->open(1);
    while (!work->test()) std::this_thread::yield();
  });
}

TEST_F(NcclFailure, CancelComesFromAnotherThread) {
  api_->plant(0, DeviceDouble::Fault::hang);
  run([&](DeviceRank& rank) {
    const auto communicator = make_nccl_communicator(rank.control, rank.api, rank.options);
    const DeviceMemory memory = make_memory(rank.api, 8);
    std::unique_ptr<Work> work;
    const auto cancel = [&] {
      std::thread other([&] {
        rank.control.barrier();
        communicator->cancel("the watchdog said so");
      });
      rank.api->synchronize(rank.stream);
      other.join();
    };
    const Start start = [&] { return communicator->start_all_gather(memory.get(), 4, memory.get()); };
    EXPECT_THAT(told_in_the_end(work, start, cancel), AllOf(HasSubstr("all_gather of 4 bytes"),
                                      testing::AnyOf(HasSubstr("the watchdog said so"), HasSubstr("remote process exited"))));
    communicator->cancel("once more");
    EXPECT_THAT(told([&] { communicator->barrier(); }), testing::Not(HasSubstr("once more")));
  });
}

TEST_F(NcclFailure, CountsThatDifferAreTold) {
  run([&](DeviceRank& rank) {
    const auto communicator = make_nccl_communicator(rank.control, rank.api, rank.options);
    const DeviceMemory memory = make_memory(rank.api, 32);
    std::unique_ptr<Work> work;
    const Start start = [&] {
      return communicator->start_all_reduce(memory.get(), 7 + rank.options.device, DType::float32, ReduceOp::sum);
    };
    const auto texts = rank.control.all_gather(told_in_the_end(work, start));
    EXPECT_THAT(texts[0] + texts[1], HasSubstr("collectives do not match"));
    EXPECT_THAT(texts, Each(HasSubstr("all_reduce of")));
  });
}

TEST_P(NcclFailure, ARankThatIsRefusedIsToldToAll) {
  for (const auto fault : {DeviceDouble::Fault::refuse_init, DeviceDouble::Fault::fail_init}) {
    const int ranks = GetParam(), bad = ranks - 1;
    api_->plant(bad, fault);
    run([&](DeviceRank& rank) {
      const TestClock hasty(1);
      rank.options.clock = &hasty;
      const std::string text = told<AgreedError>([&] { make_nccl_communicator(rank.control, rank.api, rank.options); });
      const auto texts = rank.control.all_gather(text);
      EXPECT_THAT(texts, Each(texts[0]));
      EXPECT_THAT(texts[0], AllOf(HasSubstr(", init: "),
                                  testing::AnyOf(HasSubstr("still in progress after 120 s"), HasSubstr("system error"),
                                                 HasSubstr("remote process exited"))));
    }, ranks);
  }
}

TEST_P(NcclFailure, WorkMayOutliveItsCommunicator) {
  const int ranks = GetParam();
  run([&](DeviceRank& rank) {
    auto communicator = make_nccl_communicator(rank.control, rank.api, rank.options);
    const DeviceMemory memory = make_memory(rank.api, 8);
    auto* const value = static_cast<double*>(memory.get());
    rank.api->launch(rank.stream, [=] { *value = 1; });
    const auto work = communicator->start_all_reduce(value, 1, DType::float64, ReduceOp::sum);
    communicator.reset();   // with the work under way
    work->wait();
    rank.api->synchronize(rank.stream);
    EXPECT_TRUE(work->test());
    EXPECT_EQ(*value, ranks);
  }, ranks);
}

TEST_F(NcclFailure, ARankThatIsGoneDoesNotHoldUpTheEnd) {
  run([&](DeviceRank& rank) {
    const TestClock hasty(1);
    auto options = rank.options;
    if (rank.options.device == 0) options.clock = &hasty;
    options.init_seconds = 1e9;
    auto communicator = make_nccl_communicator(rank.control, rank.api, options);
    if (rank.options.device == 0) communicator.reset();   // the other never comes to its end
    rank.control.barrier();
  });
}

TEST_F(NcclFailure, ARankThatIsGoneFailsTheOthers) {
  run([&](DeviceRank& rank) {
    auto communicator = make_nccl_communicator(rank.control, rank.api, rank.options);
    const DeviceMemory memory = make_memory(rank.api, 8);
    if (rank.options.device == 1) {
      communicator->cancel("this rank gives up");
      communicator.reset();
    } else {
      std::unique_ptr<Work> work;
      EXPECT_THAT(told_in_the_end(work, [&] { return communicator->start_broadcast(memory.get(), 8, 1); }), HasSubstr("remote process"));
    }
  });
}

TEST_F(NcclFailure, ASplitHasFailuresOfItsOwn) {
  run([&](DeviceRank& rank) {
    const auto communicator = make_nccl_communicator(rank.control, rank.api, rank.options);
    const auto part = communicator->duplicate();
    rank.control.barrier();
    dynamic_cast<NcclCommunicator&>(*part).cancel("a part that fails");
    const DeviceMemory memory = make_memory(rank.api, 8);
    rank.control.barrier();
    EXPECT_THAT(told([&] { part->broadcast(memory.get(), 8, 0); }), HasSubstr("broadcast of 8 bytes from rank 0: "));
    const auto work = communicator->start_broadcast(memory.get(), 8, 0);
    while (!work->test()) std::this_thread::yield();
  });
}

}  // namespace
}  // namespace tugline
