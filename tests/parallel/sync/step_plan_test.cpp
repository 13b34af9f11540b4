// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tugline/parallel/sync/sync_strategy.hpp"

namespace tugline {
namespace {

TEST(StepPlan, StepsCoverEachEpochOnceAndInOrder) {
  for (std::int64_t samples = 1; samples <= 25; ++samples) {
    for (std::int64_t batch = 1; batch <= 30; ++batch) {
      const StepPlan plan{samples, batch, false, 0};
      ASSERT_EQ(plan.steps_per_epoch(), (samples + batch - 1) / batch);
      std::int64_t position = 0;
      for (std::int64_t step = 0; step < 2 * plan.steps_per_epoch(); ++step) {
        const Piece piece = plan.global_piece(step);
        ASSERT_EQ(piece.step, step);
        ASSERT_EQ(piece.epoch, step / plan.steps_per_epoch());
        ASSERT_EQ(piece.epoch * samples + piece.global_begin, position);
        ASSERT_GE(piece.global_size(), 1);
        ASSERT_LE(piece.global_size(), batch);
        position = piece.epoch * samples + piece.global_end;
      }
      ASSERT_EQ(position, 2 * samples);
    }
  }
}

TEST(StepPlan, DropLastDropsTheRaggedBatchButNeverTheOnlyOne) {
  EXPECT_EQ((StepPlan{23, 5, true, 0}).steps_per_epoch(), 4);
  EXPECT_EQ((StepPlan{23, 5, true, 0}).global_piece(4).epoch, 1);
  EXPECT_EQ((StepPlan{25, 5, true, 0}).steps_per_epoch(), 5);
  EXPECT_EQ((StepPlan{3, 5, true, 0}).steps_per_epoch(), 1);
  EXPECT_EQ((StepPlan{3, 5, true, 0}).global_piece(0).global_size(), 3);
}

TEST(EqualShare, SharesAreNeighboursThatDifferByOneAtMost) {
  for (int size = 1; size <= 13; ++size) {
    for (std::int64_t count = 0; count <= 40; ++count) {
      Piece global;
      global.global_begin = 100;
      global.global_end = 100 + count;
      std::int64_t end = global.global_begin;
      for (int rank = 0; rank < size; ++rank) {
        const Piece piece = equal_share(global, rank, size);
        ASSERT_EQ(piece.begin, end) << count << " samples, rank " << rank << " of " << size;
        ASSERT_GE(piece.size(), count / size);
        ASSERT_LE(piece.size(), (count + size - 1) / size);
        ASSERT_EQ(piece.global_size(), count);
        end = piece.end;
      }
      ASSERT_EQ(end, global.global_end);
    }
  }
}

}  // namespace
}  // namespace tugline
