// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

namespace tugline {
namespace {

using Block = std::array<std::uint32_t, 4>;

// kat_vectors of Random123, philox4x32 with 10 rounds.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

std::vector<std::uint32_t> draw(Random random, int count) {
  std::vector<std::uint32_t> words(count);
  std::generate(words.begin(), words.end(), [&] { return random.bits(); });
  return words;
}

TEST(Random, IsAPureFunctionOfAllItsArguments) {
  const auto base = draw(Random(1, Purpose::order, 2, 3), 16);
  EXPECT_EQ(base, draw(Random(1, Purpose::order, 2, 3), 16));
  EXPECT_NE(base, draw(Random(2, Purpose::order, 2, 3), 16));
  EXPECT_NE(base, draw(Random(1, Purpose::split, 2, 3), 16));
  EXPECT_NE(base, draw(Random(1, Purpose::order, 3, 2), 16));
  EXPECT_NE(base, draw(Random(1, Purpose::order, 2, 3ull << 32), 16));
  EXPECT_NE(base, draw(Random(1, Purpose::order, 2ull << 32, 3), 16));
}

// Checkpoints and logs mean these numbers: a change here changes every run that is resumed.
TEST(Random, NumbersAreFixed) {
  Random random(7, Purpose::augment, 1, 2);
  EXPECT_EQ(random.bits(), 0xadb3a9e7u);
  EXPECT_EQ(mix_seed(7, Purpose::dropout, 1, 2), 0x45a5024d96a83d7bu);
  Random order(7, Purpose::order, 1);
  EXPECT_EQ(permutation(8, order), (std::vector<std::int64_t>{0, 1, 4, 5, 7, 3, 6, 2}));
}

TEST(Random, SeedsDoNotCollide) {
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed = 0; seed < 10; ++seed)
    for (std::uint64_t a = 0; a < 10; ++a)
      for (std::uint64_t b = 0; b < 10; ++b) seen.insert(mix_seed(seed, Purpose::dropout, a, b));
  EXPECT_EQ(seen.size(), 1000u);
}

TEST(Random, UniformAndNormalHaveTheirMoments) {
  Random random(3, Purpose::synthetic);
  const int n = 200000;
  double uniform_sum = 0, normal_sum = 0, normal_squares = 0, normal_cubes = 0;
  for (int i = 0; i < n; ++i) {
    const double uniform = random.uniform();
    ASSERT_GE(uniform, 0);
    ASSERT_LT(uniform, 1);
    uniform_sum += uniform;
    const double normal = random.normal();
    normal_sum += normal;
    normal_squares += normal * normal;
    normal_cubes += normal * normal * normal;
  }
  EXPECT_NEAR(uniform_sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(normal_sum / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(normal_squares / n, 1, 5 * std::sqrt(2.0 / n));
  EXPECT_NEAR(normal_cubes / n, 0, 5 * std::sqrt(15.0 / n));
}

TEST(Random, BelowIsEvenAndInside) {
  Random random(4, Purpose::search);
  std::vector<int> counts(7);
  for (int i = 0; i < 70000; ++i) ++counts.at(random.below(7));
  for (const int count : counts) EXPECT_NEAR(count, 10000, 500);
  EXPECT_EQ(random.below(1), 0u);
  // Three quarters of 2^32, and of 2^64: a plain modulo would give the lowest third twice as often.
  for (const std::uint64_t bound : {3ull << 30, 3ull << 62}) {
    int lowest_third = 0;
    for (int i = 0; i < 30000; ++i) {
      const std::uint64_t value = random.below(bound);
      ASSERT_LT(value, bound);
      lowest_third += value < bound / 3;
    }
    EXPECT_NEAR(lowest_third, 10000, 500);
  }
}

TEST(Random, PermutationsArePermutationsAndAllOccur) {
  std::set<std::vector<std::int64_t>> seen;
  for (std::uint64_t epoch = 0; epoch < 200; ++epoch) {
    Random random(5, Purpose::order, epoch);
    auto order = permutation(4, random);
    seen.insert(order);
    std::sort(order.begin(), order.end());
    ASSERT_EQ(order, (std::vector<std::int64_t>{0, 1, 2, 3}));
  }
  EXPECT_EQ(seen.size(), 24u);
  Random random(5, Purpose::order);
  EXPECT_TRUE(permutation(0, random).empty());
}

}  // namespace
}  // namespace tugline
