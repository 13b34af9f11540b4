// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/launch/process_tree.hpp"

#include <gtest/gtest.h>
#include <sched.h>

#include <csignal>

namespace tugline {
namespace {

constexpr double kMinute = 60;

/// sleep, which takes the place of the shell, never asks for the children that it finds.
TEST(ProcessTree, IsStuckWhereItDoesNotNoticeThatAChildHasEnded) {
  ProcessTree tree({"sh", "-c", "true & exec sleep 1000"});
  double now = 0;
  while (!tree.is_stuck(now)) {   // until the shell has become sleep, and the child has ended
    now += 1;
    sched_yield();
  }
  EXPECT_TRUE(tree.is_stuck(now));
  tree.signal(SIGSTOP);
  while (tree.is_stuck(now)) sched_yield();
  tree.signal(SIGCONT);
  while (!tree.is_stuck(now)) now += 1;   // it is given its time anew
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
