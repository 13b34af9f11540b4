// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/data/loader.hpp"

#include <gtest/gtest.h>

#include <ATen/ops/equal.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/error.hpp"

namespace tugline {
namespace {

struct Lab {
  std::shared_ptr<const Dataset> train = open_data(DataConfig{}, 0).train;
  std::shared_ptr<const SampleOrder> order = std::make_shared<SampleOrder>(train->size(), 3, true);
};

TEST(Loader, StacksSamplesInTheOrderOfThePiece) {
  const Lab lab;
  Loader loader(lab.train, lab.order, nullptr, 0, {});
  const Batch batch = loader.take(2, 10, 15);
  EXPECT_EQ(batch.size(), 5);
  EXPECT_EQ(batch.input.sizes(), (std::vector<std::int64_t>{5, 1, 8, 8}));
  EXPECT_EQ(batch.target.sizes(), (std::vector<std::int64_t>{5}));
  EXPECT_EQ(batch.input.scalar_type(), at::kFloat);
  EXPECT_EQ(batch.target.scalar_type(), at::kLong);
  std::vector<float> input(64);
  std::int64_t target = 0;
  for (int i = 0; i < 5; ++i) {
    lab.train->read((*lab.order->epoch(2))[10 + i], std::as_writable_bytes(std::span(input)),
                    std::as_writable_bytes(std::span(&target, 1)));
    EXPECT_EQ(batch.target.data_ptr<std::int64_t>()[i], target);
    EXPECT_TRUE(std::equal(input.begin(), input.end(), batch.input.data_ptr<float>() + 64 * i));
  }
  EXPECT_GT(loader.wait_seconds(), 0);
}

TEST(Loader, AnEmptyPieceHasTheRightShape) {
  const Lab lab;
  Loader loader(lab.train, lab.order, nullptr, 0, {});
  const Batch batch = loader.take(0, 7, 7);
  EXPECT_EQ(batch.size(), 0);
  EXPECT_EQ(batch.input.sizes(), (std::vector<std::int64_t>{0, 1, 8, 8}));
  EXPECT_EQ(batch.target.sizes(), (std::vector<std::int64_t>{0}));
  EXPECT_THROW(loader.take(0, 0, lab.train->size() + 1), Error);
  EXPECT_THROW(loader.take(0, 7, 6), Error);
}

TEST(Loader, AugmentationIsOptionalAndPrefetchChangesNothing) {
  const Lab lab;
  const AugmentConfig augment{.pad_crop = 1, .flip = false, .noise = 0.1};
  Loader plain(lab.train, lab.order, nullptr, 5, {});
  Loader off(lab.train, lab.order, &augment, 5, {.augment = false});
  Loader direct(lab.train, lab.order, &augment, 5, {.threads = 0});
  Loader ahead(lab.train, lab.order, &augment, 5, {.threads = 2});
  ahead.expect(1, 0, 200);
  const Batch expected = direct.take(1, 0, 200), prefetched = ahead.take(1, 0, 200), unchanged = plain.take(1, 0, 200);
  EXPECT_TRUE(at::equal(expected.input, prefetched.input));
  EXPECT_TRUE(at::equal(expected.target, prefetched.target));
  EXPECT_TRUE(at::equal(unchanged.input, off.take(1, 0, 200).input));
  EXPECT_FALSE(at::equal(unchanged.input, expected.input));
  EXPECT_TRUE(at::equal(unchanged.target, expected.target));
}

}  // namespace
}  // namespace tugline
