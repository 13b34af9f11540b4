// SPDX-License-Identifier: Apache-2.0
// What is true only where ranks are on several hosts; tests/support/host_lab.sh makes them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include <torch/torch.h>

#include "tugline/parallel/node/node_memory.hpp"
#include "tugline/parallel/sync/bucket_sum.hpp"
#include "tugline/tests/support/mpi_world.hpp"

namespace tugline {
namespace {

/// Bytes that have left this rank's host; of all its ranks.
std::int64_t sent_by_host() {
  std::ifstream in("/sys/class/net/eth0/statistics/tx_bytes");
  std::int64_t bytes = -1;
  in >> bytes;
  return bytes;
}

class Hosts : public MpiWorldTest {
 protected:
  void SetUp() override {
    if (std::getenv("HOST_LAB") != nullptr) {
      ASSERT_GT(world_.num_hosts(), 1) << "the lab's hosts are taken for one";
    }
    if (world_.num_hosts() == 1 || sent_by_host() < 0) GTEST_SKIP() << "needs the hosts of tests/support/host_lab.sh";
  }
};

TEST_F(Hosts, TheTeamIsTheHostAndLanesLeadToTheOthers) {
  const NodeTeam team(world_);
  EXPECT_EQ(team.size(), world_.local_size());
  EXPECT_EQ(team.rank(), world_.local_rank());
  EXPECT_EQ(team.lanes(), world_.fewest_on_a_host());
  ASSERT_EQ(team.lane() != nullptr, team.rank() < team.lanes());
  if (team.lane() == nullptr) return;
  EXPECT_EQ(team.lane()->size(), world_.num_hosts());
  EXPECT_EQ(team.lane()->rank(), world_.host_index());
}

/// However many ranks a host has, its gradients leave it once: 2 (h - 1) / h of their bytes, and what carries them.
TEST_F(Hosts, GradientsCrossTheWireOncePerHost) {
  constexpr std::int64_t kCount = 1 << 20;
  for (const bool rounded : {false, true}) {
    const auto team = std::make_shared<NodeTeam>(world_);
    at::Tensor parameter = torch::zeros({kCount}).requires_grad_(true);
    Arena arena({{"x", parameter}}, {.allocator = shared_gradients(team)});
    const auto sum = make_node_sum(team, arena, {.ring = true, .bfloat16 = rounded});
    const auto once = [&] {
      sum->begin();
      arena.flats()[0].gradients.fill_(world_.rank() + 1);
      sum->start(0);
      sum->finish();
      EXPECT_EQ(arena.flats()[0].gradients.max().item<double>(), world_.size() * (world_.size() + 1) / 2);
      EXPECT_EQ(arena.flats()[0].gradients.min().item<double>(), world_.size() * (world_.size() + 1) / 2);
    };
    once();   // connections are made
    world_.control().barrier();
    const std::int64_t before = sent_by_host();
    constexpr int kSteps = 5;
    for (int step = 0; step < kSteps; ++step) once();
    world_.control().barrier();
    const double sent = static_cast<double>(sent_by_host() - before) / kSteps;
    const double gradients = kCount * (rounded ? 2.0 : 4.0) * 2 * (world_.num_hosts() - 1) / world_.num_hosts();
    EXPECT_GT(sent, gradients);
    EXPECT_LT(sent, 1.1 * gradients) << "rounded " << rounded;
  }
}

}  // namespace
}  // namespace tugline
