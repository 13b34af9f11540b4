// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/launch/process_tree.hpp"

#include <gtest/gtest.h>
#include <sched.h>

#include <csignal>

namespace tugline {
namespace {

constexpr double kMinute = 60;
constexpr int kMostLooks = 50'000;   // ten seconds and more

template <typename Condition>
bool comes_true(const Condition& condition) {
  for (int look = 0; look < kMostLooks; ++look) {
    if (condition()) return true;
    sched_yield();
  }
  return false;
}

/// sleep, which takes the place of the shell, never asks for the children that it finds.
TEST(ProcessTree, IsStuckWhereItDoesNotNoticeThatAChildHasEnded) {
  ProcessTree tree({"sh", "-c", "true & exec sleep 1000"});
  double now = 0;
  ASSERT_TRUE(comes_true([&] { return tree.is_stuck(now += 1); }));   // the shell has become sleep, and the child has ended
  EXPECT_TRUE(tree.is_stuck(now));
  tree.signal(SIGSTOP);
  EXPECT_TRUE(comes_true([&] { return !tree.is_stuck(now); }));
  tree.signal(SIGCONT);
  EXPECT_TRUE(comes_true([&] { return tree.is_stuck(now += 1); }));   // it is given its time anew
  tree.kill();
  EXPECT_EQ(tree.exit_code(), 128 + SIGKILL);
  EXPECT_FALSE(tree.is_stuck(now + kMinute));
}

TEST(ProcessTree, IsNotStuckWhileItsChildrenLiveOrAreNoticed) {
  ProcessTree tree({"sh", "-c", "sleep 1000 & wait"});
  for (double now = 0; now < 100 * kMinute; now += kMinute) EXPECT_FALSE(tree.is_stuck(now));
}

}  // namespace
}  // namespace tugline
