// SPDX-License-Identifier: Apache-2.0
// One sum over all ranks by message, for a link between hosts (scripts/bench/hosts.sh runs it on one):
//   mpirun -n 4 bench_exchange ring|backend|bfloat16 MIB CALLS
// prints the median seconds of a call, of the slowest rank, after one that is not counted. Every call's buffer is fresh and its result is
// verified.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <string>

#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/error.hpp"
#include "tugline/parallel/sync/bucket_sum.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/bench/row.hpp"

namespace {

using namespace tugline;

/// One bucket, summed as gradients are. Small whole numbers are exact in bfloat16 too.
class OneBucket {
 public:
  OneBucket(World& world, std::int64_t count, const ExchangeOptions& options)
      : world_(world), parameter_(torch::zeros({count}).requires_grad_(true)), arena_({{"x", parameter_}}, {}),
        sum_(make_message_sum(world.communicator(), arena_, options)) {}

  double seconds() {
    const at::Tensor gradients = arena_.flats()[0].gradients;
    float* const data = gradients.data_ptr<float>();
    const std::int64_t count = gradients.numel(), n = world_.size();
    ++round_;
    for (std::int64_t i = 0; i < count; ++i) data[i] = static_cast<float>(world_.rank() + 1 + (i + round_) % 7);
    world_.control().barrier();
    const double start = Clock::steady().seconds();
    sum_->begin();
    sum_->start(0);
    sum_->finish();
    const double seconds = Clock::steady().seconds() - start;
    for (std::int64_t i = 0; i < count; ++i) {
      const auto sum = static_cast<float>(n * (n + 1) / 2 + n * ((i + round_) % 7));
      if (data[i] != sum) throw Error(fmt::format("element {}: {} is not the sum {}", i, data[i], sum));
    }
    return world_.control().all_reduce(seconds, ReduceOp::max);
  }

 private:
  World& world_;
  at::Tensor parameter_;
  Arena arena_;
  std::unique_ptr<BucketSum> sum_;
  std::int64_t round_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  tugline::World world{argc, argv, "mpi"};
  at::set_num_threads(1);
  try {
    if (argc != 4) throw tugline::Error("usage: bench_exchange ring|backend|bfloat16 MIB CALLS");
    const std::string how = argv[1];
    OneBucket bucket(world, std::int64_t{std::stol(argv[2])} << 18, {.ring = how == "ring", .bfloat16 = how == "bfloat16"});
    bucket.seconds();
    std::vector<double> seconds(static_cast<std::size_t>(std::max(1L, std::stol(argv[3]))));
    for (double& value : seconds) value = bucket.seconds();
    if (world.rank() == 0) std::cout << tugline::percentile(seconds, 0.5) << std::endl;
  } catch (const std::exception& error) {
    std::cerr << "bench_exchange: " << error.what() << std::endl;
    world.communicator().abort(1);
  }
}
