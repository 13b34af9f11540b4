// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/state/bucket_hooks.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>

#include "tugline/core/error.hpp"
#include "tugline/core/state/arena.hpp"

namespace tugline {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// Three parameters, each a bucket: c is bucket 0, b 1, a 2.
class Hooks : public testing::Test {
 protected:
  static ArenaOptions one_slot_a_bucket() {
    ArenaOptions options;
    options.bucket_bytes = 64;
    return options;
  }
  /// Gradient of each by itself: 1, 2 and 3; c is used by the last product only.
  void backward(bool with_c = true) {
    const at::Tensor inner = a_ + 2 * b_;
    (with_c ? inner + 3 * c_ : inner).sum().backward();
  }
  /// The gradients of a bucket as the callback finds them.
  void note(int bucket) {
    reported_.push_back(bucket);
    sums_.push_back(arena_.gradients(arena_.buckets()[static_cast<std::size_t>(bucket)].range).sum().item<float>());
  }

  at::Tensor a_ = torch::ones({4}).requires_grad_(true);
  at::Tensor b_ = torch::ones({4}).requires_grad_(true);
  at::Tensor c_ = torch::ones({4}).requires_grad_(true);
  Arena arena_{{{"a", a_}, {"b", b_}, {"c", c_}}, one_slot_a_bucket()};
  std::vector<int> reported_;
  std::vector<float> sums_;
};

TEST_F(Hooks, EachBucketOnceInTheLastOfTheBackwards) {
  BucketHooks hooks(arena_, [&](int bucket) { note(bucket); });
  backward();
  EXPECT_THAT(reported_, IsEmpty()) << "not armed";
  for (const int backwards : {1, 3}) {
    reported_.clear();
    sums_.clear();
    hooks.arm(backwards);   // what the gradients held before is forgotten
    for (int i = 1; i < backwards; ++i) backward();
    EXPECT_THAT(reported_, IsEmpty());
    backward();
    EXPECT_THAT(reported_, testing::UnorderedElementsAre(0, 1, 2));
    const auto n = static_cast<float>(backwards);
    EXPECT_THAT(sums_, testing::UnorderedElementsAre(4 * n, 8 * n, 12 * n)) << "complete when reported";
    EXPECT_THAT(hooks.finish(), IsEmpty());
    backward();
    EXPECT_EQ(reported_.size(), 3U) << "after the step nothing is reported";
    EXPECT_EQ(a_.grad().sum().item<float>(), 4 * (n + 1)) << "and gradients accumulate as without hooks";
  }
}

TEST_F(Hooks, UnusedParametersAreListedAndHaveNoGradient) {
  BucketHooks hooks(arena_, [&](int bucket) { note(bucket); });
  c_.mutable_grad().fill_(5);
  hooks.arm(2);
  backward(false);
  backward(false);
  EXPECT_THAT(reported_, testing::UnorderedElementsAre(1, 2));
  EXPECT_THAT(hooks.finish(), ElementsAre(0));
  EXPECT_EQ(c_.grad().abs().sum().item<float>(), 0);
}

TEST_F(Hooks, WhatIsKeptIsAddedToButForGradientsThatWereSetToNone) {
  BucketHooks hooks(arena_, [&](int bucket) { note(bucket); });
  for (auto* parameter : {&a_, &b_, &c_}) parameter->mutable_grad().fill_(10);
  b_.mutable_grad() = at::Tensor();
  hooks.arm(1, BucketHooks::Before::kept);
  backward(false);
  EXPECT_THAT(hooks.finish(), ElementsAre(0));
  EXPECT_EQ(a_.grad().sum().item<float>(), 44);
  EXPECT_EQ(b_.grad().sum().item<float>(), 8);
  EXPECT_EQ(c_.grad().sum().item<float>(), 40);
  EXPECT_EQ(arena_.rebind(), 0);
}

TEST_F(Hooks, SurviveAChangeOfTypeThereAndBack) {
  BucketHooks hooks(arena_, [&](int bucket) { note(bucket); });
  for (auto* parameter : {&a_, &b_, &c_}) {
    parameter->set_data(parameter->to(torch::kFloat64));
    parameter->set_data(parameter->to(torch::kFloat32));
  }
  for (int step = 0; step < 2; ++step) {
    reported_.clear();
    arena_.rebind_values();
    hooks.arm(1);
    backward();
    EXPECT_THAT(hooks.finish(), IsEmpty());
    EXPECT_THAT(reported_, testing::UnorderedElementsAre(0, 1, 2));
    EXPECT_EQ(c_.grad().sum().item<float>(), 12);
  }
}

TEST_F(Hooks, LookAtEveryGradientWhicheverPassBroughtIt) {
  BucketHooks hooks(arena_, [&](int bucket) { note(bucket); });
  for (int bad = -1; bad < 3; ++bad) {   // c is used in two of three passes
    for (int unused = 0; unused < 3; ++unused) {
      if (bad == unused) continue;
      hooks.arm(3);
      for (int pass = 0; pass < 3; ++pass) {
        const float factor = pass == bad ? std::numeric_limits<float>::quiet_NaN() : 1;
        const at::Tensor inner = a_ + b_;
        (pass == unused ? inner : inner + factor * c_).sum().backward();
      }
      hooks.finish();
      EXPECT_EQ(hooks.finite(), bad < 0) << "NaN in pass " << bad << ", unused in " << unused;
    }
  }
}

TEST_F(Hooks, ABucketOfSeveralWaitsForTheLast) {
  Arena arena({{"a", a_}, {"b", b_}, {"frozen", torch::ones({4})}, {"c", c_}}, {});
  int calls = 0;
  BucketHooks hooks(arena, [&](int bucket) { calls += bucket == 0 ? 1 : 100; });
  hooks.arm(1);
  (a_ * b_).sum().backward();
  EXPECT_EQ(calls, 0);
  (a_ * 2 + c_).sum().backward();   // a second pass that was not announced completes it, once
  EXPECT_EQ(calls, 1);
}

TEST_F(Hooks, GradientsThatWereSetToNoneAreInTheArenaWhenReported) {
  BucketHooks hooks(arena_, [&](int bucket) { note(bucket); });
  for (auto* parameter : {&a_, &b_, &c_}) parameter->mutable_grad() = at::Tensor();
  hooks.arm(1);
  backward();
  EXPECT_THAT(sums_, testing::UnorderedElementsAre(4.F, 8.F, 12.F));
  EXPECT_EQ(arena_.rebind(), 0);
}

TEST_F(Hooks, WhatTheCallbackThrowsReachesBackward) {
  bool fail = true;
  BucketHooks hooks(arena_, [&](int bucket) {
    if (fail && bucket == 1) throw CommError("the other rank is gone");
    note(bucket);
  });
  hooks.arm(1);
  EXPECT_THROW(backward(), CommError);
  fail = false;
  reported_.clear();
  hooks.arm(1);
  backward();
  EXPECT_THAT(reported_, testing::UnorderedElementsAre(0, 1, 2));
}

TEST_F(Hooks, GoneWithTheObject) {
  {
    BucketHooks hooks(arena_, [&](int bucket) { note(bucket); });
    hooks.arm(1);
  }
  backward();
  EXPECT_THAT(reported_, IsEmpty());
  BucketHooks again(arena_, [&](int bucket) { note(bucket); });
  again.arm(1);
  backward();
  EXPECT_THAT(reported_, testing::UnorderedElementsAre(0, 1, 2));
}

}  // namespace
}  // namespace tugline
