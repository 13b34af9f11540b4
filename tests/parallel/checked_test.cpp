// SPDX-License-Identifier: Apache-2.0
// Debug mode: what is right goes through as before, what does not match is told to all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tugline/core/log.hpp"
#include "tugline/parallel/checked/call_site.hpp"
#include "tugline/parallel/checked/checked_communicator.hpp"
#include "tugline/parallel/checked/collective_call.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/parallel/conformance.hpp"
#include "tugline/tests/parallel/mismatches.hpp"

namespace tugline {
namespace {

using testing::HasSubstr;

class CheckedConformance : public testing::TestWithParam<std::tuple<int, ConformanceCase>> {};
INSTANTIATE_TEST_SUITE_P(, CheckedConformance, testing::Combine(testing::Values(1, 2, 3, 8), testing::ValuesIn(conformance_cases())),
                         [](const auto& info) {
                           return std::string(std::get<1>(info.param).name) + "_" + std::to_string(std::get<0>(info.param));
                         });

TEST_P(CheckedConformance, Holds) {
  const auto& [ranks, conformance] = GetParam();
  run_thread_team(ranks, [&](std::unique_ptr<Communicator> communicator) { conformance.run(*checked(std::move(communicator))); });
}

class CheckedMismatch : public testing::TestWithParam<std::tuple<int, Mismatch>> {};
INSTANTIATE_TEST_SUITE_P(, CheckedMismatch, testing::Combine(testing::Values(2, 4), testing::ValuesIn(mismatches())),
                         [](const auto& info) {
                           return std::string(std::get<1>(info.param).name) + "_" + std::to_string(std::get<0>(info.param));
                         });

TEST_P(CheckedMismatch, IsToldToAll) {
  const auto& [ranks, mismatch] = GetParam();
  run_thread_team(ranks, [&](std::unique_ptr<Communicator> communicator) {
    const auto twin = communicator->duplicate();
    expect_told(mismatch, *checked(std::move(communicator)), *twin);
  });
}

TEST(Checked, GroupsAndTwinsAreCheckedToo) {
  const Mismatch& mismatch = mismatches()[1];
  run_thread_team(3, [&](std::unique_ptr<Communicator> communicator) {
    const auto whole = checked(std::move(communicator));
    const auto twin = whole->duplicate();
    expect_told(mismatch, *twin, *whole);
    const auto pair = whole->split(whole->rank() == 0 ? -1 : 0, whole->rank());
    EXPECT_EQ(pair == nullptr, whole->rank() == 0);
    if (pair) expect_told(mismatch, *pair, *pair->duplicate());
  });
}

TEST(Checked, AWorldIsCheckedOnceItIsAsked) {
  run_thread_team(3, [](std::unique_ptr<Communicator> communicator) {
    World world(std::move(communicator));
    world.debug_collectives();
    world.debug_collectives();   // once is enough
    world.control().barrier();
    expect_told(mismatches().front(), world.communicator(), world.control());
  });
}

TEST(Checked, OneRankHasNothingToCompare) {
  auto solo = solo_communicator();
  Communicator* const inner = solo.get();
  EXPECT_EQ(checked(std::move(solo)).get(), inner);
}

TEST(Checked, EqualCallsFromDifferentPlacesAreLegal) {
  run_thread_team(2, [](std::unique_ptr<Communicator> inner) {
    const auto communicator = checked(std::move(inner));
    for (std::int64_t i = 0; i < 3; ++i) {
      const std::int64_t sum = communicator->rank() == 0 ? communicator->all_reduce(i) : communicator->all_reduce(2 * i);
      EXPECT_EQ(sum, 3 * i);
    }
    communicator->barrier();
  });
}

/// Every look at it is an hour later.
class HastyClock final : public Clock {
 public:
  double seconds() const override { return 3600.0 * ++looks_; }

 private:
  mutable std::atomic<int> looks_ = 0;
};

TEST(Checked, WhoWaitsLongSaysWhere) {
  std::atomic<bool> told = false;
  std::string text;
  log::set_console([&](std::string_view line) {
    text = line;
    told = true;
  });
  const HastyClock clock;
  run_thread_team(2, [&](std::unique_ptr<Communicator> inner) {
    const auto communicator = checked(std::move(inner), clock);
    while (communicator->rank() == 1 && !told) std::this_thread::yield();
    communicator->barrier();
  });
  log::set_console(nullptr);
  EXPECT_THAT(text, HasSubstr("rank 0 has waited a minute for the others to call collective number 1 of this communicator: barrier at "));
}

TEST(CallSite, NamesTheCallersAndHasADigest) {
  const CallSite site = CallSite::here();
  EXPECT_THAT(site.text(), HasSubstr(names_are_known() ? "TestBody" : "+0x"));
  SiteDigest first, second;
  EXPECT_EQ(first(site), second(site));
  EXPECT_EQ(first(site), first(site));
  EXPECT_NE(first(site), first(CallSite::here()));
}

TEST(CallSite, NamesGoWithoutArguments) {
  EXPECT_EQ(without_arguments("main"), "main");
  EXPECT_EQ(without_arguments("tugline::agree(tugline::Communicator&, std::function<void ()> const&) [clone .cold]"), "agree");
  EXPECT_EQ(without_arguments("tugline::(anonymous namespace)::open_run(tugline::World&)::{lambda(int)#1}::operator()(int) const"),
            "open_run::{lambda#1}::operator()");
  EXPECT_EQ(without_arguments("void tugline::(anonymous namespace)::visit<int, std::pair<int, int> >(int)"), "visit");
  EXPECT_EQ(without_arguments("mine::operator<(mine::A, mine::B)"), "mine::operator<(mine::A, mine::B)");
  EXPECT_EQ(without_arguments(""), "");
}

TEST(CollectiveCall, RanksThatSayTheSameStandTogether) {
  const std::vector<std::string> two{"a", "b", "a", "a"};
  EXPECT_EQ(by_rank(two), "ranks 0,2-3 call a; rank 1 calls b");
  const std::vector<std::string> many{"a", "b", "c", "d", "e", "f"};
  EXPECT_EQ(by_rank(many), "rank 0 calls a; rank 1 calls b; rank 2 calls c; rank 3 calls d; others something else again");
}

}  // namespace
}  // namespace tugline
