// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/io/background_job.hpp"

#include <gtest/gtest.h>

#include <future>
#include <stdexcept>
#include <vector>

namespace tugline {
namespace {

TEST(BackgroundJobTest, OneAtATimeInTheirOrder) {
  std::vector<int> order;
  std::promise<void> go;
  {
    BackgroundJob job;
    job.wait();   // nothing is under way
    job.start([&] {
      go.get_future().wait();
      order.push_back(1);
    });
    EXPECT_TRUE(order.empty()) << "start() does not wait for its own job";
    go.set_value();
    job.start([&] { order.push_back(2); });
    job.start([&] { order.push_back(3); });
  }
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3})) << "the destructor waits";
}

TEST(BackgroundJobTest, ThrowsOnceWhatTheJobThrew) {
  BackgroundJob job;
  bool ran = false;
  job.start([] { throw std::runtime_error("disk full"); });
  EXPECT_THROW(job.start([&] { ran = true; }), std::runtime_error);
  job.wait();
  EXPECT_FALSE(ran) << "and then nothing is started";
  job.start([&] { ran = true; });
  job.wait();
  EXPECT_TRUE(ran);
}

}  // namespace
}  // namespace tugline
