// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/parallel/ring/ring_cases.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "tugline/core/random.hpp"
#include "tugline/parallel/reduce.hpp"
#include "tugline/parallel/ring/ring_communicator.hpp"

namespace tugline {
namespace {

/// Segments of a few elements and hardly any under way: what goes wrong between segments goes wrong here.
constexpr SegmentOptions kTiny{.segment_bytes = 64, .in_flight = 2};

bool same_on_all_ranks(Communicator& communicator, const std::vector<float>& values) {
  std::vector<float> all(values.size() * static_cast<std::size_t>(communicator.size()));
  communicator.all_gather(values.data(), static_cast<std::int64_t>(values.size() * sizeof(float)), all.data());
  for (int r = 0; r < communicator.size(); ++r) {
    if (std::memcmp(all.data() + static_cast<std::size_t>(r) * values.size(), values.data(), values.size() * sizeof(float)) != 0) return false;
  }
  return true;
}

std::vector<float> draw(std::uint64_t seed, int rank, std::int64_t count) {
  Random random(seed, Purpose::synthetic, static_cast<std::uint64_t>(rank));
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

/// Sums of any length, from any element on, many under way, with segments that divide nothing: each is the sum, on all ranks alike.
void random_sums_under_way_at_once(Communicator& inner) {
  for (std::uint64_t plan = 0; plan < 6; ++plan) {
    Random random(plan, Purpose::synthetic);
    RingCommunicator ring(inner.duplicate(), {.segment_bytes = static_cast<std::int64_t>(4 + random.below(600)),
                                              .in_flight = static_cast<int>(1 + random.below(5))});
    std::vector<std::vector<std::int32_t>> data;
    std::vector<std::unique_ptr<Work>> under_way;
    const int calls = static_cast<int>(1 + random.below(9));
    std::vector<std::size_t> offsets;
    for (int call = 0; call < calls; ++call) {
      data.emplace_back(random.below(3000), inner.rank() + call);
      offsets.push_back(data.back().empty() ? 0 : random.below(data.back().size()));
    }
    for (std::size_t call = 0; call < data.size(); ++call) {
      under_way.push_back(ring.start_all_reduce(data[call].data() + offsets[call],
                                                static_cast<std::int64_t>(data[call].size() - offsets[call]), DType::int32, ReduceOp::sum));
    }
    while (!under_way.empty()) {   // in any order
      const std::size_t pick = random.below(under_way.size());
      under_way[pick]->wait();
      under_way.erase(under_way.begin() + static_cast<std::ptrdiff_t>(pick));
    }
    const int size = inner.size();
    for (std::size_t call = 0; call < data.size(); ++call) {
      for (std::size_t i = 0; i < data[call].size(); ++i) {
        const int here = inner.rank() + static_cast<int>(call), sum = size * (size - 1) / 2 + size * static_cast<int>(call);
        ASSERT_EQ(data[call][i], i < offsets[call] ? here : sum) << "plan " << plan << ", call " << call << ", element " << i;
      }
    }
  }
}

void every_run_has_the_same_bits(Communicator& inner) {
  std::vector<float> before;
  for (int run = 0; run < 3; ++run) {
    RingCommunicator ring(inner.duplicate(), kTiny);
    auto values = draw(3, inner.rank(), 1234);
    ring.all_reduce(values.data(), 1234, DType::float32);
    EXPECT_TRUE(same_on_all_ranks(inner, values));
    if (run > 0) {
      EXPECT_EQ(std::memcmp(before.data(), values.data(), values.size() * sizeof(float)), 0);
    }
    before = values;
  }
}

/// Rounding to 8 bits at each hop loses what a constant gradient adds to a weight; the residual brings it back.
void rounded_sums_lose_nothing_over_time(Communicator& inner) {
  RingCommunicator ring(inner.duplicate(), kTiny);
  constexpr std::int64_t kCount = 777;
  constexpr int kSteps = 64;
  std::vector<double> exact(kCount, 0);
  for (int rank = 0; rank < inner.size(); ++rank) {
    const auto part = draw(4, rank, kCount);
    for (std::size_t i = 0; i < part.size(); ++i) exact[i] += part[i];
  }
  std::vector<float> residual(kCount, 0);
  std::vector<double> total(kCount, 0);
  for (int step = 0; step < kSteps; ++step) {
    auto values = draw(4, inner.rank(), kCount);
    ring.start_rounded_sum(values.data(), kCount, residual.data())->wait();
    EXPECT_TRUE(same_on_all_ranks(inner, values));
    if (inner.size() > 1) {
      std::vector<std::uint16_t> wire(kCount);
      std::vector<float> again(kCount);
      from_float32(values.data(), wire.data(), kCount, DType::bfloat16);
      to_float32(wire.data(), again.data(), kCount, DType::bfloat16);
      EXPECT_EQ(again, values) << "what all hold is what went over the wire";
    }
    for (std::size_t i = 0; i < values.size(); ++i) total[i] += values[i];
  }
  double worst_mean = 0, worst_residual = 0;
  for (std::size_t i = 0; i < total.size(); ++i) worst_mean = std::max(worst_mean, std::abs(total[i] / kSteps - exact[i]));
  for (const float left : residual) worst_residual = std::max(worst_residual, static_cast<double>(std::abs(left)));
  // Without feedback the same error, up to 2^-9 of the value and hop, would come back at each step and stay in the mean.
  EXPECT_LT(worst_mean, 8.0 * inner.size() / 256 / kSteps);
  EXPECT_LT(worst_residual, 8.0 / 256) << "what is left does not pile up";
}

void infinities_and_nans_arrive_and_do_not_stay(Communicator& inner) {
  RingCommunicator ring(inner.duplicate(), kTiny);
  std::vector<float> residual(100, 0);
  for (const float odd : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::max()}) {
    std::vector<float> values(100, 1);
    if (inner.rank() == inner.size() - 1) values[50] = odd;
    ring.start_rounded_sum(values.data(), 100, residual.data())->wait();
    if (inner.size() > 1) {
      EXPECT_FALSE(std::isfinite(values[50])) << odd;   // the largest float rounds to infinity
    }
    EXPECT_EQ(values[49], inner.size());
    std::fill(values.begin(), values.end(), 1.0F);
    ring.start_rounded_sum(values.data(), 100, residual.data())->wait();
    EXPECT_EQ(values[50], inner.size()) << "after " << odd;
  }
}

/// One rank starts late: the others' sums wait for it, whoever advances them.
void a_work_that_is_dropped_is_waited_for(Communicator& inner) {
  RingCommunicator ring(inner.duplicate(), kTiny);
  std::vector<std::int64_t> values(500, inner.rank());
  ring.start_all_reduce(values.data(), 500, DType::int64, ReduceOp::sum).reset();
  for (const std::int64_t value : values) ASSERT_EQ(value, inner.size() * (inner.size() - 1) / 2);
}

/// test() alone, which moves nothing by itself: the thread does.
void sums_go_on_while_the_rank_computes(Communicator& inner) {
  RingCommunicator ring(inner.duplicate(), kTiny);
  std::vector<std::int32_t> values(2000, 1);
  const auto work = ring.start_all_reduce(values.data(), 2000, DType::int32, ReduceOp::sum);
  while (!work->test()) std::this_thread::yield();   // ranks may outnumber cores
  EXPECT_EQ(values.front(), inner.size());
  EXPECT_EQ(values.back(), inner.size());
}

}  // namespace

const std::vector<RingCase>& ring_cases() {
  static const std::vector<RingCase> cases = {
      {"RandomSumsUnderWayAtOnce", random_sums_under_way_at_once},
      {"EveryRunHasTheSameBits", every_run_has_the_same_bits},
      {"RoundedSumsLoseNothingOverTime", rounded_sums_lose_nothing_over_time},
      {"InfinitiesAndNaNsArriveAndDoNotStay", infinities_and_nans_arrive_and_do_not_stay},
      {"AWorkThatIsDroppedIsWaitedFor", a_work_that_is_dropped_is_waited_for},
      {"SumsGoOnWhileTheRankComputes", sums_go_on_while_the_rank_computes},
  };
  return cases;
}

}  // namespace tugline
