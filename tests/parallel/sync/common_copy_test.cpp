// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/node/node_memory.hpp"
#include "tugline/tests/support/mpi_world.hpp"

namespace tugline {
namespace {

/// This process's part of the mapping that `data` lies in, as the kernel divides pages among those who map them (Pss).
std::int64_t proportional_bytes(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  std::ifstream in("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::uintptr_t begin = 0, end = 0;
    char dash = 0;
    if (words >> std::hex >> begin >> dash >> end && dash == '-') {
      inside = begin <= address && address < end;
    } else if (inside && line.starts_with("Pss:")) {
      return std::stoll(line.substr(4)) * 1024;
    }
  }
  return -1;
}

class CommonCopy : public MpiWorldTest {};

TEST_F(CommonCopy, ParametersAndOptimizerStateAreThereOncePerHost) {
  constexpr std::int64_t kCount = 2 << 20;
  const auto team = std::make_shared<NodeTeam>(world_);
  ArenaOptions options;
  options.allocator = shared_everything(team);
  options.values_are_there = team->rank() != 0;
  Arena arena({{"x", torch::ones({kCount}).requires_grad_(true)}}, options);
  OptimConfig config;
  config.name = "adamw";
  const auto optimizer = make_optimizer(config, arena);
  team->barrier();

  std::vector<at::Tensor> all{arena.flats()[0].values};
  for (const auto& slot : optimizer->slots()) {
    for (const at::Tensor& buffer : slot.buffers) {
      if (buffer.numel() == kCount) all.push_back(buffer);
    }
  }
  ASSERT_EQ(all.size(), 3U) << "values and two moments";
  std::int64_t mine = 0;
  for (const at::Tensor& tensor : all) EXPECT_GE(tensor.sum().item<double>(), 0);   // all ranks have touched all pages
  team->barrier();
  for (const at::Tensor& tensor : all) mine += proportional_bytes(tensor.data_ptr());
  team->barrier();
  const double of_all_ranks = static_cast<double>(world_.control().all_reduce(mine));
  const double of_one_rank = 3.0 * kCount * sizeof(float) * world_.num_hosts();
  EXPECT_GE(of_all_ranks, 0.99 * of_one_rank);
  EXPECT_LE(of_all_ranks, 1.1 * of_one_rank);
}

}  // namespace
}  // namespace tugline
