// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/segment_link.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/parallel/forwarding_communicator.hpp"
#include "tugline/parallel/threads/thread_team.hpp"

namespace tugline {
namespace {

constexpr SegmentOptions kTiny{.segment_bytes = 64, .in_flight = 3};

/// Counts the sends and receives that are under way.
class Counting final : public ForwardingCommunicator {
 public:
  using ForwardingCommunicator::ForwardingCommunicator;
  std::unique_ptr<Work> start_send(const void* data, std::int64_t bytes, int to, int tag) override {
    return counted(ForwardingCommunicator::start_send(data, bytes, to, tag), bytes, sends);
  }
  std::unique_ptr<Work> start_receive(void* data, std::int64_t bytes, int from, int tag) override {
    return counted(ForwardingCommunicator::start_receive(data, bytes, from, tag), bytes, receives);
  }
  struct Count {
    int now = 0, most = 0;
  };
  Count sends, receives;
  std::int64_t longest = 0;
  int allowed = -1;   // so many more, and then an error

 private:
  class Counted final : public Work {
   public:
    Counted(std::unique_ptr<Work> work, Count& count) : work_(std::move(work)), count_(count) { count.most = std::max(count.most, ++count.now); }
    ~Counted() override { --count_.now; }
    bool test() override { return --pause_ < 0 && work_->test(); }   // not before it is asked for the third time
    void wait() override { work_->wait(); }

   private:
    std::unique_ptr<Work> work_;
    Count& count_;
    int pause_ = 2;
  };
  std::unique_ptr<Work> counted(std::unique_ptr<Work> work, std::int64_t bytes, Count& count) {
    longest = std::max(longest, bytes);
    if (allowed-- == 0) throw CommError("the cable is out");
    return std::make_unique<Counted>(std::move(work), count);
  }
};

/// The same on both sides: of `number`, that `from` sends.
std::vector<std::byte> message(int from, std::size_t number) {
  constexpr std::size_t kSizes[] = {0, 1, 63, 64, 65, 128, 1000};
  std::vector<std::byte> bytes(kSizes[(number * 5 + static_cast<std::size_t>(from)) % std::size(kSizes)]);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + number * 31 + static_cast<std::size_t>(from));
  return bytes;
}

TEST(SegmentLink, MessagesOfAnySizeArriveInOrderAndFewSegmentsAreUnderWay) {
  constexpr std::size_t kMessages = 100;
  for (unsigned seed = 0; seed < 5; ++seed) {
    run_thread_team(2, [&](std::unique_ptr<Communicator> communicator) {
      const int me = communicator->rank(), peer = 1 - me;
      Counting counting(std::move(communicator));
      SegmentLink link(counting, peer, 1 + me, 1 + peer, kTiny);
      std::mt19937 random(seed * 2 + static_cast<unsigned>(me));
      std::vector<std::vector<std::byte>> sent, received;
      std::vector<std::unique_ptr<Work>> sends, receives;
      std::size_t arrived = 0;
      for (std::size_t i = 0; i < kMessages; ++i) {
        sent.push_back(message(me, i));
        received.emplace_back(message(peer, i).size());
      }
      while (arrived < kMessages) {
        switch (random() % 3) {
          case 0:
            if (sends.size() < kMessages) sends.push_back(link.start_send(sent[sends.size()]));
            break;
          case 1:
            if (receives.size() < kMessages) receives.push_back(link.start_receive(received[receives.size()]));
            break;
          default: link.progress();
        }
        for (; arrived < receives.size() && receives[arrived]->test(); ++arrived) EXPECT_EQ(received[arrived], message(peer, arrived)) << arrived;
      }
      while (sends.size() < kMessages) sends.push_back(link.start_send(sent[sends.size()]));
      sends.clear();   // waits
      EXPECT_EQ(counting.longest, kTiny.segment_bytes);
      EXPECT_EQ(counting.sends.most, kTiny.in_flight);
      EXPECT_EQ(counting.receives.most, kTiny.in_flight);
      EXPECT_EQ(counting.sends.now + counting.receives.now, 0);
    });
  }
}

TEST(SegmentLink, AfterAnErrorNothingIsDoneAndNobodyWaits) {
  run_thread_team(2, [](std::unique_ptr<Communicator> communicator) {
    if (communicator->rank() == 1) return;
    Counting counting(std::move(communicator));
    SegmentLink link(counting, 1, 1, 2, kTiny);
    std::vector<std::byte> bytes(1000);
    counting.allowed = 5;
    const auto whole = link.start_send(std::span(bytes).first(64));
    while (!whole->test()) {}
    const auto work = link.start_send(bytes);
    EXPECT_THROW(while (!work->test()) {}, CommError);
    EXPECT_THROW(work->test(), CommError);
    EXPECT_THROW(link.start_send(bytes), CommError);
    EXPECT_TRUE(whole->test());
  });
}

}  // namespace
}  // namespace tugline
