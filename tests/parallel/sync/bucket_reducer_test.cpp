// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/sync/bucket_reducer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tugline/core/state/arena.hpp"
#include "tugline/tests/support/mpi_world.hpp"

namespace tugline {
namespace {

using ::testing::ElementsAre;

/// Sums nothing; says which buckets left, and where backward ended.
class Recorder final : public BucketSum {
 public:
  explicit Recorder(std::vector<int>& left) : left_(left) {}
  void begin() override { left_.clear(); }
  void start(int bucket) override { left_.push_back(bucket); }
  void progress() override {}
  void finish() override {}
  Range held(int) const override { return {}; }
  Range watched(int) const override { return {}; }
  bool finite() const override { return true; }
  void forget() override {}
  std::vector<Residual> residuals() const override { return {}; }
  std::int64_t bytes() const override { return 0; }

 private:
  std::vector<int>& left_;
};

class BucketOrder : public MpiWorldTest {
 protected:
  static ArenaOptions one_slot_a_bucket() {
    ArenaOptions options;
    options.bucket_bytes = 64;
    return options;
  }
  at::Tensor parameter() { return torch::ones({4}).requires_grad_(true); }
  /// x * p * q * ...: the gradient of the last factor is there first. `d` is not used.
  void step(std::vector<at::Tensor> factors) {
    reducer_.arm(1);
    at::Tensor product = torch::ones({4});
    for (const at::Tensor& factor : factors) product = (product * factor).sin();
    product.sum().backward();
    during_backward_ = left_.size();
    reducer_.finish();
  }

  at::Tensor a_ = parameter(), b_ = parameter(), c_ = parameter(), d_ = parameter();
  Arena arena_{{{"d", d_}, {"c", c_}, {"b", b_}, {"a", a_}}, one_slot_a_bucket()};   // a is bucket 0, d is 3
  std::vector<int> left_;
  std::size_t during_backward_ = 0;
  BucketReducer reducer_{arena_, std::make_unique<Recorder>(left_), world_.control()};
};

TEST_F(BucketOrder, IsThatOfRankZerosFirstStep) {
  // On rank 0 c is complete first; elsewhere a is, as the arena expects.
  const bool first = world_.rank() == 0;
  step(first ? std::vector{a_, b_, c_} : std::vector{c_, b_, a_});
  EXPECT_THAT(left_, ElementsAre(0, 1, 2, 3)) << "nothing is known yet";
  if (alone()) return;
  step({a_, b_, c_});
  EXPECT_THAT(left_, ElementsAre(2, 1, 0, 3));
  EXPECT_EQ(during_backward_, 3U);
  step({c_, a_, b_});   // and stays so: all ranks have the same
  EXPECT_THAT(left_, ElementsAre(2, 1, 0, 3));
}

TEST_F(BucketOrder, ARankWithoutSamplesLearnsItToo) {
  if (alone()) GTEST_SKIP() << "one rank has all samples";
  if (last()) {
    reducer_.arm(0);
    reducer_.finish();
  } else {
    step({b_, a_, c_});
  }
  step({a_, b_, c_});
  EXPECT_THAT(left_, ElementsAre(2, 0, 1, 3));
}

}  // namespace
}  // namespace tugline
