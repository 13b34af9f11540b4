// SPDX-License-Identifier: Apache-2.0
// What it costs to give a gradient to common parameters and to read them again: mpirun -n N bench_async [--quick]
// Rank 0 pushes 100 MiB of fresh gradients through plain sgd and reads the parameters, against memcpy of the same bytes in the same run; the
// other ranks have nothing to do, then all do it at once.
#include <torch/torch.h>

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

void run(World& world, int rounds) {
  constexpr std::int64_t kElements = 100 << 18;   // float32: 100 MiB
  const auto node = world.size() > 1 ? std::make_shared<NodeTeam>(world) : nullptr;
  torch::nn::Sequential model;
  for (int i = 0; i < 25; ++i) model->push_back(torch::nn::Linear(torch::nn::LinearOptions(1024, kElements / 25 / 1024).bias(false)));
  Arena arena(named_parameters_of(*model), {.allocator = shared_but_values(node)});
  OptimConfig config;
  config.momentum = 0;
  auto common = arena.like("common parameters");
  const auto optimizer = make_optimizer(config, arena, common);
  JobRanges ranges(world.control(), arena, *optimizer, common, Schedule(config, {1 << 20, 1, 1}), {.node = node, .hosts = {}, .pieces_per_step = world.size()},
                   Clock::steady());
  ranges.publish(0, 1 << 20);
  std::vector<std::uint32_t> copies(arena.buckets().size(), 0);
  at::Tensor& gradients = const_cast<at::Tensor&>(arena.flats()[0].gradients);
  const at::Tensor other = torch::zeros_like(gradients, torch::MemoryFormat::Contiguous);
  const GradientTurn::Options options{.worker = world.rank(), .first_range = ranges.num_ranges() * world.rank() / world.size(), .staleness = 100};
  GradientTurn first(ranges.here(), copies, options);
  ranges.run(first);
  const auto push_and_pull = [&] {
    gradients.normal_();   // as backward leaves it: written a moment ago
    return seconds_of([&] {
      GradientTurn turn(ranges.here(), copies, {.piece = 0, .samples = 1, .step_samples = world.size(), .weight = 1}, options);
      ranges.run(turn);
    });
  };
  const auto copy = [&] {
    gradients.normal_();
    return seconds_of([&] { std::memcpy(other.data_ptr(), gradients.data_ptr(), gradients.nbytes()); });
  };
  std::vector<double> alone, together;
  for (int i = 0; i < rounds + 1; ++i) {
    world.control().barrier();
    const double one = world.rank() == 0 ? push_and_pull() : 0, memcpy_one = world.rank() == 0 ? copy() : 0;
    world.control().barrier();
    const double all = push_and_pull();
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

}  // namespace

int main(int argc, char** argv) {
  tugline::World world{argc, argv};
  at::set_num_threads(1);
  try {
    run(world, argc > 1 && std::string(argv[1]) == "--quick" ? 5 : 20);
  } catch (const std::exception& error) {
    std::cerr << "bench_async: " << error.what() << std::endl;
    world.communicator().abort(1);
  }
}
