// SPDX-License-Identifier: Apache-2.0
// A bucket's sum over the ranks of one host, in shared memory, against MPI_Allreduce and against a copy of the same bytes that all
// ranks make at once:
//   mpirun -n 2 bench_all_reduce [--quick]
//   mpirun -n 2 bench_all_reduce --ours BYTES      prints the median microseconds of ours alone, for scripts/bench/ddp.sh
// Every rank rewrites its whole buffer before each timed call and reads the whole result inside it: data that stayed in each rank's own
// cache would flatter shared memory. Results are verified in the run. Prints one JSON object per size and peer on rank 0.
#include <mpi.h>
#include <torch/torch.h>

#include <cstring>
#include <functional>
#include <iostream>

#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/error.hpp"
#include "tugline/parallel/node/node_memory.hpp"
#include "tugline/parallel/sync/bucket_sum.hpp"
#include "tugline/tests/bench/row.hpp"

namespace {

using namespace tugline;

class Bench {
 public:
  Bench(World& world, std::int64_t bytes)
      : world_(world), count_(bytes / 4), team_(std::make_shared<NodeTeam>(world)), parameter_(torch::zeros({count_}).requires_grad_(true)),
        arena_({{"x", parameter_}}, {.allocator = shared_gradients(team_)}), sum_(make_node_sum(team_, arena_)),
        own_(torch::zeros({count_})), copy_(torch::zeros({count_})) {}

  /// Median seconds of the slowest rank over `calls` calls.
  double ours(int calls) {
    float* data = arena_.flats()[0].gradients.data_ptr<float>();
    return median(calls, [&] { sum_->begin(); fill(data); }, data, [&] {
      sum_->start(0);
      sum_->finish();
    }, true);
  }
  double mpi(int calls) {
    float* data = own_.data_ptr<float>();
    return median(calls, [&] { fill(data); }, data, [&] {
      MPI_Allreduce(MPI_IN_PLACE, data, static_cast<int>(count_), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    }, true);
  }
  double copy(int calls) {
    float *from = own_.data_ptr<float>(), *to = copy_.data_ptr<float>();
    return median(calls, [&] { fill(from); }, to, [&] { std::memcpy(to, from, static_cast<std::size_t>(count_) * 4); }, false);
  }

 private:
  void fill(float* data) {
    ++round_;
    for (std::int64_t i = 0; i < count_; ++i) data[i] = static_cast<float>(world_.rank() + 1 + (i + round_) % 7);
  }
  void verify(const float* data) const {
    const std::int64_t n = world_.size();
    for (std::int64_t i = 0; i < count_; ++i) {
      if (data[i] == static_cast<float>(n * (n + 1) / 2 + n * ((i + round_) % 7))) continue;
      throw Error(fmt::format("element {}: {} is not the sum", i, data[i]));
    }
  }
  double median(int calls, const std::function<void()>& prepare, const float* result, const std::function<void()>& call, bool is_sum) {
    std::vector<double> seconds(static_cast<std::size_t>(calls));
    for (double& value : seconds) {
      prepare();
      MPI_Barrier(MPI_COMM_WORLD);
      const double start = Clock::steady().seconds();
      call();
      float total = 0;
      for (std::int64_t i = 0; i < count_; i += 16) total += result[i];   // a load of every line
      sink_ = sink_ + total;
      value = Clock::steady().seconds() - start;
      if (is_sum && &value == &seconds.back()) verify(result);
    }
    MPI_Allreduce(MPI_IN_PLACE, seconds.data(), calls, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return percentile(seconds, 0.5);
  }

  World& world_;
  std::int64_t count_, round_ = 0;
  std::shared_ptr<NodeTeam> team_;
  at::Tensor parameter_;
  Arena arena_;
  std::unique_ptr<BucketSum> sum_;
  at::Tensor own_, copy_;
  volatile float sink_ = 0;
};

void print(const std::string& size, int ranks, double seconds, const std::vector<double>& ratios, const char* peer, double goal) {
  print_row("all-reduce", fmt::format("{}, {} ranks, {:.1f} us", size, ranks, 1e6 * seconds), ratios, peer, goal);
}

}  // namespace

int main(int argc, char** argv) {
  World world{argc, argv, "mpi"};
  at::set_num_threads(1);
  const bool quick = argc > 1 && std::string(argv[1]) == "--quick";
  try {
    if (argc == 3 && std::string(argv[1]) == "--ours") {
      Bench bench(world, std::stol(argv[2]));
      bench.ours(5);
      const double seconds = bench.ours(std::stol(argv[2]) <= (64 << 10) ? 200 : 30);
      if (world.rank() == 0) std::cout << 1e6 * seconds << std::endl;
      return 0;
    }
    const std::vector<std::pair<std::string, std::int64_t>> sizes{
        {"4 KiB", 4 << 10}, {"64 KiB", 64 << 10}, {"1 MiB", 1 << 20}, {"4 MiB", 4 << 20}, {"25 MiB", 25 << 20}};
    for (const auto& [name, bytes] : sizes) {
      Bench bench(world, bytes);
      const int calls = bytes <= (64 << 10) ? 200 : 15;
      std::vector<double> seconds, against_mpi, against_copy;
      for (int block = -1; block < (quick ? 7 : 30); ++block) {
        const double ours = bench.ours(calls), mpi = bench.mpi(calls), copy = bench.copy(calls);
        if (block < 0) continue;   // warm-up
        seconds.push_back(ours);
        against_mpi.push_back(ours / mpi);
        against_copy.push_back(ours / copy);
      }
      if (world.rank() != 0) continue;
      const bool small = bytes < (1 << 20), crowded = world.size() > 2;
      print(name, world.size(), percentile(seconds, 0.5), against_mpi, "MPI_Allreduce", small ? (crowded ? 0.6 : 0.3) : (crowded ? 0.6 : 0.25));
      if (!crowded && !small) print(name, world.size(), percentile(seconds, 0.5), against_copy, "memcpy by all ranks at once", 0.6);
    }
  } catch (const std::exception& error) {
    std::cerr << "bench_all_reduce: " << error.what() << std::endl;
    world.communicator().abort(1);
  }
}
