// SPDX-License-Identifier: Apache-2.0
// The double itself: that it does as CUDA does where tests lean on it, and finds mistakes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tugline/core/error.hpp"
#include "tugline/parallel/nccl/device_handles.hpp"
#include "tugline/tests/support/device_double.hpp"

namespace tugline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Double : public testing::Test {
 protected:
  std::shared_ptr<DeviceDouble> api_ = std::make_shared<DeviceDouble>(1);
};

TEST_F(Double, StreamsRunByThemselvesAndInOrder) {
  const OwnedStream one = make_stream(api_), other = make_stream(api_);
  std::string text;
  api_->wait_at(one.get(), 1);
  api_->launch(one.get(), [&] { text += "a"; });
  api_->launch(one.get(), [&] { text += "b"; });
  api_->launch(other.get(), [&] { text += "c"; });
  api_->wait_until_quiet();
  EXPECT_EQ(text, "c");
  EXPECT_FALSE(api_->query(one.get()));
  EXPECT_TRUE(api_->query(other.get()));
  api_->open(1);
  api_->synchronize(one.get());
  EXPECT_EQ(text, "cab");
}

TEST_F(Double, EventsOrderStreams) {
  const OwnedStream one = make_stream(api_), other = make_stream(api_);
  const OwnedEvent event = make_event(api_);
  std::string text;
  EXPECT_TRUE(api_->query(event.get())) << "never recorded";
  api_->stream_wait(other.get(), event.get());   // so there is nothing to wait for
  api_->launch(other.get(), [&] { text += "a"; });
  api_->synchronize(other.get());
  api_->wait_at(one.get(), 1);
  api_->launch(one.get(), [&] { text += "b"; });
  api_->record(event.get(), one.get());
  api_->stream_wait(other.get(), event.get());
  api_->launch(other.get(), [&] { text += "c"; });
  api_->wait_until_quiet();
  EXPECT_FALSE(api_->query(event.get()));
  EXPECT_EQ(text, "a");
  api_->open(1);
  api_->synchronize(other.get());
  EXPECT_EQ(text, "abc");
}

TEST_F(Double, EventsThatKeepTimeTellIt) {
  const Event begin = api_->create_event(true), end = api_->create_event(true), other = api_->create_event(false);
  for (const Event event : {begin, end, other}) api_->record(event, nullptr);
  api_->synchronize(nullptr);
  EXPECT_GE(api_->elapsed_ms(begin, end), 0);
  EXPECT_THROW(api_->elapsed_ms(begin, other), CommError);
}

TEST_F(Double, MemoryIsOfTheDeviceOrPinned) {
  char own[8] = {};
  const DeviceMemory memory = make_memory(api_, 8);
  const PinnedMemory pinned = make_pinned(api_, 8);
  EXPECT_TRUE(api_->on_device(memory.get()));
  EXPECT_TRUE(api_->on_device(static_cast<char*>(memory.get()) + 7));
  EXPECT_FALSE(api_->on_device(static_cast<char*>(memory.get()) + 8));
  EXPECT_FALSE(api_->on_device(pinned.get()));
  EXPECT_FALSE(api_->on_device(own));
  EXPECT_FALSE(api_->on_device(nullptr));
  EXPECT_THROW(api_->copy_to_device(memory.get(), own, 8, nullptr), CommError);
  EXPECT_THROW(api_->copy_to_host(pinned.get(), memory.get(), 9, nullptr), CommError);
  EXPECT_THAT(api_->misuses(), ElementsAre(HasSubstr("not pinned memory"), HasSubstr("beyond")));
}

/// One rank, connected.
NcclComm connect(DeviceDouble& api) {
  NcclComm comm = nullptr;
  api.nccl_init(comm, api.nccl_id(), 0, 1);
  while (api.nccl_status(comm).state == NcclStatus::State::in_progress) continue;
  return comm;
}

TEST_F(Double, FindsMistakesWithNccl) {
  const NcclComm comm = connect(*api_);
  const OwnedStream stream = make_stream(api_);
  const OwnedEvent event = make_event(api_);
  const DeviceMemory memory = make_memory(api_, 16);
  float own[4] = {};
  EXPECT_THROW(api_->all_reduce(comm, own, 4, DType::float32, ReduceOp::sum, stream.get()), CommError);
  EXPECT_THROW(api_->all_reduce(comm, memory.get(), 5, DType::float32, ReduceOp::sum, stream.get()), CommError);
  api_->all_reduce(comm, memory.get(), 4, DType::float32, ReduceOp::sum, stream.get());
  EXPECT_THROW(api_->record(event.get(), stream.get()), CommError);
  EXPECT_THROW(api_->broadcast(comm, memory.get(), 4, 0, stream.get()), CommError);
  EXPECT_EQ(api_->launches(), 0);
  while (api_->nccl_status(comm).state == NcclStatus::State::in_progress) continue;
  EXPECT_EQ(api_->launches(), 1);
  api_->synchronize(stream.get());
  api_->nccl_destroy(comm);
  EXPECT_THAT(api_->misuses(),
              ElementsAre(HasSubstr("an all_reduce was given what is not memory of the device"), HasSubstr("an all_reduce goes beyond"),
                          HasSubstr("an event recorded before"), HasSubstr("in progress"), HasSubstr("before it was finalized")));
}

TEST_F(Double, FindsWhatIsUsedAfterItsEnd) {
  const Stream stream = api_->create_stream();
  api_->destroy(stream);
  EXPECT_THROW(api_->launch(stream, [] {}), CommError);
  const Event event = api_->create_event(false);
  api_->destroy(event);
  EXPECT_THROW(api_->record(event, nullptr), CommError);
  const NcclComm comm = connect(*api_);
  api_->nccl_abort(comm);
  EXPECT_THROW(api_->nccl_status(comm), CommError);
  EXPECT_THAT(api_->misuses(), ElementsAre("a destroyed stream in use", "a destroyed event in use",
                                           "a communicator in use that was destroyed or aborted"));
  EXPECT_EQ(api_->alive(), 0);
}

}  // namespace
}  // namespace tugline
