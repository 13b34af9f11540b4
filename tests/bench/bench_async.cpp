// SPDX-License-Identifier: Apache-2.0
// What it costs to give a gradient to common parameters and to read them again: mpirun -n N bench_async [--quick]
// Rank 0 pushes 100 MiB of fresh gradients through plain sgd and reads the parameters, against memcpy of the same bytes in the same run; the
// other ranks have nothing to do, then all do it at once. bench_async --hosts MIB ROUNDS: median seconds in which every rank has done it at once, for
// scripts/bench/hosts.sh, which runs it on a link.
#include <torch/torch.h>

#include <algorithm>
#include <cstring>
#include <iostream>

#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/config/run_config.hpp"
#include "tugline/core/models/module_tensors.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/parallel/async/job_ranges.hpp"
#include "tugline/parallel/node/node_memory.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/bench/row.hpp"

namespace {

using namespace tugline;

double seconds_of(const std::function<void()>& body) {
  const double start = Clock::steady().seconds();
  body();
  return Clock::steady().seconds() - start;
}

/// Common parameters of so many MiB, that all ranks push fresh gradients to and read again.
class PushAndPull {
 public:
  PushAndPull(World& world, std::int64_t mib)
      : world_(world), node_(world.size() > 1 ? std::make_shared<NodeTeam>(world) : nullptr), model_(layers(mib)),
        arena_(named_parameters_of(*model_), {.allocator = shared_but_values(node_)}), common_(arena_.like("common parameters")),
        optimizer_(make_optimizer(plain_sgd(), arena_, common_)),
        ranges_(world.control(), arena_, *optimizer_, common_, Schedule(plain_sgd(), {1 << 20, 1, 1}),
                {.node = node_, .hosts = world.hosts(), .pieces_per_step = world.size()}, Clock::steady()),
        copies_(arena_.buckets().size(), 0),
        options_{.worker = world.rank(), .first_range = ranges_.num_ranges() * world.rank() / world.size(), .staleness = 100, .far = ranges_.far()} {
    ranges_.publish(0, 1 << 20);
    GradientTurn first(ranges_.here(), copies_, options_);
    ranges_.run(first);
  }

  /// Of this rank alone.
  double seconds() {
    at::Tensor(gradients()).normal_();   // as backward leaves it: written a moment ago
    return seconds_of([&] {
      GradientTurn turn(ranges_.here(), copies_, {.piece = 0, .samples = 1, .step_samples = world_.size(), .weight = 1}, options_);
      ranges_.run(turn);
    });
  }
  const at::Tensor& gradients() const { return arena_.flats()[0].gradients; }

 private:
  static torch::nn::Sequential layers(std::int64_t mib) {
    torch::nn::Sequential model;
    for (std::int64_t i = 0; i < mib / 4; ++i) model->push_back(torch::nn::Linear(torch::nn::LinearOptions(1024, 1024).bias(false)));
    return model;
  }
  static OptimConfig plain_sgd() {
    OptimConfig config;
    config.momentum = 0;
    return config;
  }
  World& world_;
  std::shared_ptr<NodeTeam> node_;
  torch::nn::Sequential model_;
  Arena arena_;
  std::vector<at::Tensor> common_;
  std::unique_ptr<Optimizer> optimizer_;
  JobRanges ranges_;
  std::vector<std::uint32_t> copies_;
  GradientTurn::Options options_;
};

void run(World& world, int rounds) {
  PushAndPull ranks(world, 100);
  const at::Tensor other = torch::zeros_like(ranks.gradients(), torch::MemoryFormat::Contiguous);
  const auto copy = [&] {
    at::Tensor(ranks.gradients()).normal_();
    return seconds_of([&] { std::memcpy(other.data_ptr(), ranks.gradients().data_ptr(), ranks.gradients().nbytes()); });
  };
  std::vector<double> alone, together;
  for (int i = 0; i < rounds + 1; ++i) {
    world.control().barrier();
    const double one = world.rank() == 0 ? ranks.seconds() : 0, memcpy_one = world.rank() == 0 ? copy() : 0;
    world.control().barrier();
    const double all = ranks.seconds();
    world.control().barrier();
    const double memcpy_all = copy();
    if (i == 0 || world.rank() != 0) continue;   // pages are touched
    alone.push_back(one / memcpy_one);
    together.push_back(all / memcpy_all);
  }
  if (world.rank() != 0) return;
  print_row("async", "push and pull of 100 MiB, sgd, one rank", alone, "memcpy of the same bytes", 2.5);
  if (world.size() > 1) print_row("async", fmt::format("push and pull of 100 MiB, sgd, {} ranks at once", world.size()), together, "memcpy of the same bytes by each", 0);
}

/// For a link: the median seconds of the slowest rank, after one that is not counted.
void run_on_hosts(World& world, std::int64_t mib, int rounds) {
  PushAndPull ranks(world, mib);
  std::vector<double> seconds;
  for (int i = 0; i < rounds + 1; ++i) {
    world.control().barrier();
    const double slowest = world.control().all_reduce(ranks.seconds(), ReduceOp::max);
    if (i > 0) seconds.push_back(slowest);
  }
  std::sort(seconds.begin(), seconds.end());
  if (world.rank() == 0) std::cout << seconds[seconds.size() / 2] << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  tugline::World world{argc, argv};
  at::set_num_threads(1);
  try {
    if (argc == 4 && std::string(argv[1]) == "--hosts") run_on_hosts(world, std::stoll(argv[2]), std::stoi(argv[3]));
    else run(world, argc > 1 && std::string(argv[1]) == "--quick" ? 5 : 20);
  } catch (const std::exception& error) {
    std::cerr << "bench_async: " << error.what() << std::endl;
    world.communicator().abort(1);
  }
}
