// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/data/prefetcher.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <latch>
#include <numeric>
#include <set>

#include "tugline/core/error.hpp"
#include "tugline/tests/core/data/data_files.hpp"

namespace tugline {
namespace {

using Indices = std::vector<std::int64_t>;

TEST(SampleOrder, IsAPermutationThatDependsOnSeedAndEpochAlone) {
  const SampleOrder order(100, 7, true), again(100, 7, true), other(100, 8, true);
  Indices sorted = *order.epoch(0);
  std::sort(sorted.begin(), sorted.end());
  Indices identity(100);
  std::iota(identity.begin(), identity.end(), 0);
  EXPECT_EQ(sorted, identity);
  EXPECT_NE(*order.epoch(0), *order.epoch(1));
  EXPECT_NE(*order.epoch(0), *other.epoch(0));
  EXPECT_EQ(*again.epoch(5), *order.epoch(5));  // whatever was asked for before
  EXPECT_EQ(*again.epoch(0), *order.epoch(0));
  const auto held = order.epoch(0);
  const Indices copy = *held;
  for (int epoch = 1; epoch < 5; ++epoch) order.epoch(epoch);
  EXPECT_EQ(*held, copy);
}

TEST(SampleOrder, KeepsTheTwoMostRecentEpochs) {
  const SampleOrder order(10, 7, true);
  const auto first = order.epoch(0);
  order.epoch(1);
  EXPECT_EQ(order.epoch(0), first);
  order.epoch(2);  // 1 goes, 0 was used later
  EXPECT_EQ(order.epoch(0), first);
}

TEST(SampleOrder, WithoutShufflingIsTheIdentity) {
  const SampleOrder order(4, 7, false);
  EXPECT_EQ(*order.epoch(0), (Indices{0, 1, 2, 3}));
  EXPECT_EQ(order.epoch(3).get(), order.epoch(0).get());
}

/// Images of 1 x 4 x 4 whose pixels say which sample they are. A hook sees each read, to block it or to throw.
class Numbered final : public Dataset {
 public:
  explicit Numbered(std::int64_t size, bool cheap = false) : size_(size), cheap_(cheap) { spec_.input_shape = {1, 4, 4}; }
  const SampleSpec& spec() const override { return spec_; }
  std::int64_t size() const override { return size_; }
  void read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const override {
    ++reads;
    if (on_read) on_read(index);
    for (int i = 0; i < 16; ++i) reinterpret_cast<float*>(input.data())[i] = static_cast<float>(100 * index + i);
    *reinterpret_cast<std::int64_t*>(target.data()) = index;
  }
  std::uint64_t fingerprint() const override { return 0; }
  bool cheap() const override { return cheap_; }

  std::function<void(std::int64_t)> on_read;
  mutable std::atomic<int> reads = 0;

 private:
  SampleSpec spec_;
  std::int64_t size_;
  bool cheap_;
};

struct Taken {
  std::vector<float> inputs;
  Indices targets;
  bool operator==(const Taken&) const = default;
};

Taken take(Prefetcher& prefetcher, std::int64_t epoch, std::int64_t begin, std::int64_t end) {
  Taken taken{std::vector<float>(16 * (end - begin)), Indices(end - begin)};
  prefetcher.take(epoch, begin, end, std::as_writable_bytes(std::span(taken.inputs)),
                  std::as_writable_bytes(std::span(taken.targets)));
  return taken;
}

AugmentConfig all_augmentations() { return {.pad_crop = 1, .flip = true, .noise = 0.1}; }

struct Lab {
  std::shared_ptr<Numbered> data = std::make_shared<Numbered>(100);
  std::shared_ptr<SampleOrder> order = std::make_shared<SampleOrder>(100, 7, true);

  std::unique_ptr<Prefetcher> make(Prefetcher::Options options, const AugmentConfig& augment = {}) const {
    return std::make_unique<Prefetcher>(data, order, Augment(augment, data->spec()), 7, options);
  }
};

TEST(Prefetcher, AnyThreadsAndAnyCutGiveTheSameSamples) {
  const Lab lab;
  for (const AugmentConfig& augment : {AugmentConfig{}, all_augmentations()}) {
    const auto reference = lab.make({.threads = 0}, augment);
    const Taken whole[] = {take(*reference, 0, 0, 100), take(*reference, 1, 0, 100)};
    EXPECT_EQ(whole[0].targets, *lab.order->epoch(0));
    for (const int threads : {0, 1, 3}) {
      for (const std::int64_t max_samples : {1, 20, 1000}) {
        for (const std::int64_t piece : {1, 7, 16, 33, 100}) {
          const auto prefetcher = lab.make({threads, max_samples}, augment);
          for (int epoch = 0; epoch < 2; ++epoch) {
            Taken all;
            prefetcher->expect(epoch, 0, 50);
            for (std::int64_t begin = 0; begin < 100; begin += piece) {
              prefetcher->expect(epoch, begin, std::min<std::int64_t>(100, begin + 40));
              const Taken part = take(*prefetcher, epoch, begin, std::min<std::int64_t>(100, begin + piece));
              all.inputs.insert(all.inputs.end(), part.inputs.begin(), part.inputs.end());
              all.targets.insert(all.targets.end(), part.targets.begin(), part.targets.end());
              EXPECT_LE(prefetcher->pending_samples(), max_samples);
            }
            EXPECT_EQ(all, whole[epoch]) << threads << " threads, pieces of " << piece;
          }
        }
      }
    }
  }
}

// What a rank sees of a sample does not depend on the other samples it holds: three ranks that cut each batch in thirds.
TEST(Prefetcher, AugmentationIsTheSameForAnyWorldSize) {
  const Lab lab;
  const auto alone = lab.make({.threads = 1}, all_augmentations());
  std::vector<std::unique_ptr<Prefetcher>> ranks;
  for (int rank = 0; rank < 3; ++rank) ranks.push_back(lab.make({.threads = 1}, all_augmentations()));
  for (std::int64_t batch = 0; batch < 90; batch += 30) {
    const Taken whole = take(*alone, 4, batch, batch + 30);
    Taken parts;
    for (int rank = 0; rank < 3; ++rank) {
      const Taken part = take(*ranks[rank], 4, batch + 10 * rank, batch + 10 * rank + 10);
      parts.inputs.insert(parts.inputs.end(), part.inputs.begin(), part.inputs.end());
      parts.targets.insert(parts.targets.end(), part.targets.begin(), part.targets.end());
    }
    EXPECT_EQ(parts, whole);
  }
}

TEST(Prefetcher, AugmentationBelongsToEpochAndSampleWhereverItStandsInTheOrder) {
  Lab shuffled, plain;
  plain.order = std::make_shared<SampleOrder>(100, 7, false);
  const auto moved = shuffled.make({.threads = 0}, all_augmentations()),
             still = plain.make({.threads = 0}, all_augmentations());
  const Taken there = take(*moved, 3, 0, 100), here = take(*still, 3, 0, 100);
  for (int i = 0; i < 100; ++i) {
    const auto from = here.inputs.begin() + 16 * there.targets[i];
    ASSERT_TRUE(std::equal(from, from + 16, there.inputs.begin() + 16 * i));
  }
  EXPECT_NE(take(*still, 4, 0, 100).inputs, here.inputs);
}

TEST(Prefetcher, ExpectingTwiceCostsNothing) {
  const Lab lab;
  std::latch let_go(1);
  lab.data->on_read = [&](std::int64_t) { let_go.wait(); };
  const auto prefetcher = lab.make({.threads = 1});
  prefetcher->expect(0, 10, 40);
  prefetcher->expect(0, 10, 40);
  EXPECT_EQ(prefetcher->pending_samples(), 30);
  prefetcher->expect(0, 0, 60);  // around it, and on
  prefetcher->expect(0, 5, 25);
  EXPECT_EQ(prefetcher->pending_samples(), 60);
  prefetcher->expect(1, 0, 10);  // another epoch is another sample
  EXPECT_EQ(prefetcher->pending_samples(), 70);
  let_go.count_down();
  EXPECT_EQ(take(*prefetcher, 0, 0, 60).targets.size(), 60u);
  EXPECT_EQ(prefetcher->pending_samples(), 10);
  EXPECT_LE(lab.data->reads, 70);
}

TEST(Prefetcher, AReCutReloadsNothing) {
  const Lab lab;
  const auto prefetcher = lab.make({.threads = 1});
  prefetcher->expect(0, 0, 64);
  for (const auto& [begin, end] : std::vector<std::pair<int, int>>{{0, 5}, {5, 26}, {26, 27}, {27, 64}})
    take(*prefetcher, 0, begin, end);
  EXPECT_EQ(lab.data->reads, 64);
  EXPECT_EQ(prefetcher->pending_samples(), 0);
}

TEST(Prefetcher, TheThreadReadsAheadOfTake) {
  const Lab lab;
  std::latch sixteen_read(16);
  lab.data->on_read = [&](std::int64_t) { sixteen_read.count_down(); };
  const auto prefetcher = lab.make({.threads = 1});
  prefetcher->expect(0, 0, 16);
  sixteen_read.wait();  // with nobody calling take
  take(*prefetcher, 0, 0, 16);
  EXPECT_EQ(lab.data->reads, 16);
}

TEST(Prefetcher, AnErrorSurfacesInTheTakeThatNeedsTheSample) {
  const Lab lab;
  const std::int64_t bad = (*lab.order->epoch(0))[40];
  lab.data->on_read = [&](std::int64_t index) {
    if (index == bad) throw DataError("f: record " + std::to_string(index) + ": bad");
  };
  for (const int threads : {0, 2}) {
    const auto prefetcher = lab.make({.threads = threads});
    prefetcher->expect(0, 0, 100);
    EXPECT_EQ(take(*prefetcher, 0, 0, 40).targets.size(), 40u);
    EXPECT_EQ(error_of<DataError>([&] { take(*prefetcher, 0, 40, 44); }), "f: record " + std::to_string(bad) + ": bad");
    EXPECT_EQ(take(*prefetcher, 0, 41, 100).targets.size(), 59u);  // goes on where asked to
  }
}

TEST(Prefetcher, StopsWhileAThreadIsInTheMiddleOfARead) {
  const Lab lab;
  std::latch inside(1), let_go(1);
  std::atomic<bool> first = true;
  lab.data->on_read = [&](std::int64_t) {
    if (!first.exchange(false)) return;
    inside.count_down();
    let_go.wait();
  };
  auto prefetcher = lab.make({.threads = 1});
  prefetcher->expect(0, 0, 100);
  inside.wait();
  std::thread destroyer([&] { prefetcher.reset(); });
  let_go.count_down();
  destroyer.join();
  EXPECT_LE(lab.data->reads, 100);
}

TEST(Prefetcher, CheapDataIsReadInTake) {
  Lab lab;
  lab.data = std::make_shared<Numbered>(100, true);
  const auto prefetcher = lab.make({.threads = 2});
  prefetcher->expect(0, 0, 100);
  EXPECT_EQ(prefetcher->pending_samples(), 0);
  EXPECT_EQ(take(*prefetcher, 0, 3, 5).targets, (Indices{(*lab.order->epoch(0))[3], (*lab.order->epoch(0))[4]}));
}

TEST(Prefetcher, EmptyPiecesAndHintsBeyondTheEnd) {
  const Lab lab;
  const auto prefetcher = lab.make({.threads = 1});
  prefetcher->expect(0, 90, 1000);
  EXPECT_LE(prefetcher->pending_samples(), 10);
  EXPECT_TRUE(take(*prefetcher, 0, 50, 50).targets.empty());
  EXPECT_EQ(take(*prefetcher, 0, 95, 100).targets.size(), 5u);
  EXPECT_THROW(take(*prefetcher, 0, 95, 101), Error);
}

TEST(Augment, FlipMirrorsHalfOfTheImages) {
  const Lab lab;
  const auto flipped = lab.make({.threads = 0}, {.flip = true});
  const auto plain = lab.make({.threads = 0});
  const Taken before = take(*plain, 0, 0, 100), after = take(*flipped, 0, 0, 100);
  int mirrored = 0;
  for (int i = 0; i < 100; ++i) {
    const bool mirror = after.inputs[16 * i] != before.inputs[16 * i];
    mirrored += mirror;
    for (int pixel = 0; pixel < 16; ++pixel) {
      const int from = mirror ? pixel / 4 * 4 + 3 - pixel % 4 : pixel;
      ASSERT_EQ(after.inputs[16 * i + pixel], before.inputs[16 * i + from]);
    }
  }
  EXPECT_GT(mirrored, 30);
  EXPECT_LT(mirrored, 70);
}

TEST(Augment, PadCropShiftsAndFillsWithZero) {
  const Lab lab;
  const auto cropped = lab.make({.threads = 0}, {.pad_crop = 1});
  const Taken after = take(*cropped, 0, 0, 100);
  std::set<std::pair<int, int>> shifts;
  for (int i = 0; i < 100; ++i) {
    const float first = 100.0f * static_cast<float>(after.targets[i]);
    // Pixel (1, 1) is inside for each of the nine shifts and says where it came from.
    const int from = static_cast<int>(after.inputs[16 * i + 5] - first), down = from / 4 - 1, right = from % 4 - 1;
    shifts.insert({down, right});
    for (int y = 0; y < 4; ++y) {
      for (int x = 0; x < 4; ++x) {
        const bool inside = y + down >= 0 && y + down < 4 && x + right >= 0 && x + right < 4;
        const float expected = inside ? first + static_cast<float>(4 * (y + down) + x + right) : 0;
        ASSERT_EQ(after.inputs[16 * i + 4 * y + x], expected);
      }
    }
  }
  EXPECT_EQ(shifts.size(), 9u);
}

TEST(Augment, NoiseHasTheConfiguredDeviation) {
  const Lab lab;
  const auto noisy = lab.make({.threads = 0}, {.noise = 0.5});
  const auto plain = lab.make({.threads = 0});
  const Taken before = take(*plain, 0, 0, 100), after = take(*noisy, 0, 0, 100);
  double squares = 0;
  for (std::size_t i = 0; i < 1600; ++i) squares += std::pow(after.inputs[i] - before.inputs[i], 2);
  EXPECT_NEAR(std::sqrt(squares / 1600), 0.5, 0.05);
}

TEST(Augment, RefusesWhatIsNoImage) {
  SampleSpec table, tokens;
  table.input_shape = {4};
  tokens.input_shape = {4};
  tokens.input_dtype = DType::int64;
  EXPECT_EQ(error_of<ConfigError>([&] { Augment({.flip = true}, table); }),
            "data.augment.flip: these inputs are no images: set it to false");
  EXPECT_EQ(error_of<ConfigError>([&] { Augment({.pad_crop = 2}, table); }),
            "data.augment.pad_crop: these inputs are no images: set it to 0");
  EXPECT_EQ(error_of<ConfigError>([&] { Augment({.noise = 1}, tokens); }),
            "data.augment.noise: these inputs are tokens: set it to 0");
  EXPECT_TRUE(Augment({.noise = 1}, table).active());
  EXPECT_FALSE(Augment({}, tokens).active());
}

}  // namespace
}  // namespace tugline
