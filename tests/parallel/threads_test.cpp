// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tugline/core/error.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/tests/parallel/conformance.hpp"

namespace tugline {
namespace {

using testing::HasSubstr;

class ThreadsConformance : public testing::TestWithParam<std::tuple<int, ConformanceCase>> {};
INSTANTIATE_TEST_SUITE_P(, ThreadsConformance,
                         testing::Combine(testing::Values(1, 2, 3, 4, 8, 13), testing::ValuesIn(conformance_cases())),
                         [](const auto& info) {
                           return std::string(std::get<1>(info.param).name) + "_" + std::to_string(std::get<0>(info.param));
                         });

TEST_P(ThreadsConformance, Holds) {
  const auto& [ranks, conformance] = GetParam();
  run_thread_team(ranks, [&](std::unique_ptr<Communicator> communicator) { conformance.run(*communicator); });
}

TEST(Threads, OneRankAloneConforms) {
  for (const auto& conformance : conformance_cases()) conformance.run(*solo_communicator());
}

/// `body`'s outcome on each rank: "done", or what it threw.
std::vector<std::string> outcomes(int ranks, const std::function<void(Communicator&)>& body, bool swallow = true) {
  std::vector<std::string> texts(static_cast<std::size_t>(ranks), "done");
  run_thread_team(ranks, [&](std::unique_ptr<Communicator> communicator) {
    try {
      body(*communicator);
    } catch (const CommError& error) {
      texts[static_cast<std::size_t>(communicator->rank())] = error.what();
      if (!swallow) throw;
    }
  });
  return texts;
}

TEST(Threads, TheFirstExceptionIsRethrownAndNobodyWaits) {
  std::atomic<int> released = 0;
  const auto team = [&] {
    run_thread_team(4, [&](std::unique_ptr<Communicator> communicator) {
      if (communicator->rank() == 2) throw DataError("rank 2 found no data");
      try {
        communicator->barrier();
      } catch (const CommError&) {
        ++released;
        throw;
      }
    });
  };
  EXPECT_THROW(team(), DataError);
  EXPECT_EQ(released, 3);
}

TEST(Threads, ARankThatHasLeftEndsTheWaitForIt) {
  const auto texts = outcomes(3, [](Communicator& communicator) {
    if (communicator.rank() == 1) return;
    if (communicator.rank() == 0) communicator.barrier();
    std::int64_t value = 0;
    if (communicator.rank() == 2) communicator.receive(&value, sizeof value, 1, 0);
  });
  EXPECT_THAT(texts[0], HasSubstr("barrier: rank 1 has left"));
  EXPECT_EQ(texts[1], "done");
  EXPECT_THAT(texts[2], HasSubstr("receive from rank 1"));
}

TEST(Threads, CollectivesThatDoNotMatchAreTold) {
  const auto texts = outcomes(2, [](Communicator& communicator) {
    float values[8] = {};
    communicator.all_reduce(values, communicator.rank() == 0 ? 7 : 8, DType::float32);
  });
  EXPECT_THAT(texts[0] + texts[1], HasSubstr("collectives do not match"));
  EXPECT_THAT(texts[0] + texts[1], HasSubstr("all_reduce of 7 float32"));
  EXPECT_THAT(texts[0] + texts[1], HasSubstr("all_reduce of 8 float32"));
  EXPECT_NE(texts[0], "done");
  EXPECT_NE(texts[1], "done");
}

TEST(Threads, AMessageLongerThanTheBufferIsAnError) {
  const auto texts = outcomes(2, [](Communicator& communicator) {
    std::int64_t values[2] = {};
    if (communicator.rank() == 0) {
      communicator.send(values, 16, 1, 0);
    } else {
      communicator.receive(values, 8, 0, 0);
    }
  });
  EXPECT_EQ(texts[0], "done");
  EXPECT_THAT(texts[1], HasSubstr("longer than the buffer"));
}

}  // namespace
}  // namespace tugline
