// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/optim/spike_detector.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tugline/core/error.hpp"
#include "tugline/core/random.hpp"

namespace tugline {
namespace {

constexpr double kFactor = 8;

/// exp(deviation * normal): norms of gradients are spread like that.
class Noise {
 public:
  explicit Noise(double deviation, std::uint64_t seed = 1) : deviation_(deviation), random_(seed, Purpose::synthetic) {}
  double operator()() { return std::exp(deviation_ * random_.normal()); }

 private:
  double deviation_;
  Random random_;
};

/// Which of `norms`, counted from 0, are spikes.
std::vector<std::size_t> spikes_among(SpikeDetector& detector, const std::vector<double>& norms) {
  std::vector<std::size_t> spikes;
  for (std::size_t i = 0; i < norms.size(); ++i) {
    if (detector.judge(norms[i])) spikes.push_back(i);
  }
  return spikes;
}

template <typename Norm>
std::vector<double> series(std::size_t steps, Norm norm) {
  std::vector<double> norms;
  for (std::size_t i = 0; i < steps; ++i) norms.push_back(norm(static_cast<double>(i)));
  return norms;
}

TEST(SpikeDetector, NoiseAloneIsNoSpike) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Noise noise(0.5, seed);   // five deviations of such noise are a factor of 12
    SpikeDetector detector(kFactor);
    EXPECT_THAT(spikes_among(detector, series(5000, [&](double) { return 0.3 * noise(); })), testing::IsEmpty()) << seed;
  }
}

/// Twice in ten steps a batch of those that are not fitted yet: nobody's fault.
TEST(SpikeDetector, KnowsLongTails) {
  Noise noise(0.5);
  SpikeDetector detector(kFactor);
  EXPECT_THAT(spikes_among(detector, series(5000, [&](double step) { return (std::fmod(step * 7, 10) < 2 ? 0.4 : 0.02) * noise(); })), testing::IsEmpty());
}

TEST(SpikeDetector, FollowsWhatChangesSlowly) {
  Noise noise(0.3);
  const auto rises = [&](double step) { return 1e-3 * std::exp(step / 20) * noise(); };            // by a factor of 150 over a window
  const auto falls = [&](double step) { return 10 / (1 + step * step / 100) * noise(); };          // steeply from the first step on
  const auto warms_up = [&](double step) { return 5 * std::min(1.0, (step + 1) / 100) * noise(); };
  for (const auto& norms : {series(600, rises), series(600, falls), series(600, warms_up)}) {
    SpikeDetector detector(kFactor);
    EXPECT_THAT(spikes_among(detector, norms), testing::IsEmpty());
  }
}

TEST(SpikeDetector, FindsASpikeAndIsNotMovedByIt) {
  Noise noise(0.3);
  auto norms = series(400, [&](double) { return 2 * noise(); });
  norms[100] = 2e30;   // a bit of an exponent
  norms[101] = 60;
  norms[103] = 80;
  norms[300] = 50;
  SpikeDetector detector(kFactor), calm(kFactor);
  EXPECT_EQ(spikes_among(detector, norms), (std::vector<std::size_t>{100, 101, 103, 300}));
  for (const std::size_t spike : {300, 103, 101, 100}) norms.erase(norms.begin() + static_cast<std::ptrdiff_t>(spike));
  EXPECT_THAT(spikes_among(calm, norms), testing::IsEmpty());
  EXPECT_EQ(detector.save(), calm.save()) << "a spike has left no trace";
}

TEST(SpikeDetector, SaysWhatIsUsual) {
  SpikeDetector detector(kFactor);
  for (int i = 0; i < 100; ++i) ASSERT_FALSE(detector.judge(1 + i % 3));   // 1, 2, 3
  const auto spike = detector.judge(25);
  ASSERT_TRUE(spike);
  EXPECT_EQ(spike->norm, 25);
  EXPECT_EQ(spike->usual, 3);
  EXPECT_FALSE(detector.judge(24)) << "not more than the factor";
}

TEST(SpikeDetector, JudgesNothingBeforeItHasSeenEnough) {
  SpikeDetector detector(kFactor);
  for (std::size_t i = 0; i + 1 < SpikeDetector::kWarmUp; ++i) ASSERT_FALSE(detector.judge(1));
  EXPECT_FALSE(detector.judge(1e6));
  EXPECT_TRUE(detector.judge(1e6));
}

TEST(SpikeDetector, AStepThatIsComputedAgainCountsOnce) {
  SpikeDetector detector(kFactor), other(kFactor);
  for (int i = 0; i < 50; ++i) {
    const double norm = 1 + 0.1 * (i % 7);
    if (i == 30) {
      EXPECT_TRUE(detector.judge(100));
    }
    detector.judge(norm);
    other.judge(norm);
  }
  EXPECT_EQ(detector.save(), other.save());
}

TEST(SpikeDetector, ALevelThatStaysIsTheNewUsual) {
  Noise noise(0.3);
  auto norms = series(300, [&](double step) { return (step < 150 ? 1 : 50) * noise(); });
  norms[250] = 3000;
  SpikeDetector detector(kFactor);
  EXPECT_EQ(spikes_among(detector, norms), (std::vector<std::size_t>{150, 151, 152, 153, 154, 250}));
}

TEST(SpikeDetector, WhatGrowsWithoutBoundsIsNoLevel) {
  SpikeDetector detector(kFactor);
  EXPECT_EQ(spikes_among(detector, series(40, [](double step) { return step < 30 ? 1 : std::pow(10, step - 29); })).size(), 10U);
}

TEST(SpikeDetector, NothingIsOutOfLineWithZeros) {
  SpikeDetector detector(kFactor);
  EXPECT_THAT(spikes_among(detector, series(100, [](double step) { return step < 50 ? 0 : 1; })), testing::IsEmpty());
}

/// Also between the spikes of a new level, where not all that counts is in the window.
TEST(SpikeDetector, GoesOnFromACheckpointAsIfItHadNotStopped) {
  Noise noise(0.5);
  auto norms = series(300, [&](double step) { return (step < 150 ? 1 : 50) * noise() / 3; });
  norms[90] = 1e20;
  for (std::size_t stop = 0; stop < norms.size(); ++stop) {
    SpikeDetector whole(kFactor), first(kFactor), second(kFactor);
    const std::vector<double> before(norms.begin(), norms.begin() + static_cast<std::ptrdiff_t>(stop)), after(norms.begin() + static_cast<std::ptrdiff_t>(stop), norms.end());
    spikes_among(whole, before);
    spikes_among(first, before);
    second.load(first.save());
    EXPECT_EQ(spikes_among(second, after), spikes_among(whole, after)) << stop;
    EXPECT_EQ(second.save(), whole.save()) << stop;
  }
}

TEST(SpikeDetector, RefusesWhatItHasNotWritten) {
  SpikeDetector detector(kFactor);
  for (int i = 0; i < 30; ++i) detector.judge(1);
  const std::string before = detector.save();
  for (const char* bad : {"{", "{}", R"({"norms":[1],"spikes":[]})", R"({"norms":["1x"],"spikes":[]})", R"({"norms":["nan"],"spikes":[]})",
                          R"({"norms":["1"],"spikes":["1","1","1","1","1","1"]})"}) {
    EXPECT_THROW(detector.load(bad), CheckpointError) << bad;
  }
  EXPECT_EQ(detector.save(), before);
  detector.load("");
  EXPECT_EQ(detector.save(), before);
}

}  // namespace
}  // namespace tugline
