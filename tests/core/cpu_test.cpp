// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/cpu.hpp"

#include <gmock/gmock.h>

#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

class CpuBudgetTest : public TemporaryFolder {
 protected:
  void SetUp() override {
    TemporaryFolder::SetUp();
    put("sys/devices/system/cpu/online", "0-7\n");
    put("proc/self/status", "Name:\ttest\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\n");
  }
  void put(const std::string& file, const std::string& text) { write(folder_ / file, text); }
  CpuBudget budget() const { return cpu_budget(folder_); }
};

TEST_F(CpuBudgetTest, NoLimit) {
  put("proc/self/cgroup", "0::/user.slice\n");
  put("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
  EXPECT_EQ(budget().online_cores, 8);
  EXPECT_EQ(budget().affinity_cores, 8);
  EXPECT_EQ(budget().cgroup_cores, 0);
  EXPECT_EQ(budget().usable, 8);
}

TEST_F(CpuBudgetTest, VersionTwoTakesTheTightestOfAllLevels) {
  put("proc/self/cgroup", "0::/pod/box\n");
  put("sys/fs/cgroup/pod/cpu.max", "250000 100000\n");
  put("sys/fs/cgroup/pod/box/cpu.max", "400000 100000\n");
  EXPECT_DOUBLE_EQ(budget().cgroup_cores, 2.5);
  EXPECT_EQ(budget().usable, 2);
}

TEST_F(CpuBudgetTest, VersionTwoInAContainerThatShowsTheHostsPath) {
  put("proc/self/cgroup", "0::/kubepods/pod1/box\n");
  put("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_DOUBLE_EQ(budget().cgroup_cores, 0.5);
  EXPECT_EQ(budget().usable, 1) << "never less than one";
}

TEST_F(CpuBudgetTest, VersionOne) {
  put("proc/self/cgroup", "3:cpuset:/x\n2:cpu,cpuacct:/docker/abc\n0::/\n");
  put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  put("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "6000\n");
  put("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "2000\n");
  EXPECT_DOUBLE_EQ(budget().cgroup_cores, 3);
}

TEST_F(CpuBudgetTest, VersionOneMountedAsCpuAlone) {
  put("proc/self/cgroup", "1:cpu:/\n");
  put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n");
  put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(budget().cgroup_cores, 1.5);
}

TEST_F(CpuBudgetTest, BindingCountsBeforeTheQuota) {
  put("proc/self/status", "Cpus_allowed_list:\t2,4-5\n");
  put("proc/self/cgroup", "0::/\n");
  put("sys/fs/cgroup/cpu.max", "700000 100000\n");
  EXPECT_THAT(budget().cores, testing::ElementsAre(2, 4, 5));
  EXPECT_EQ(budget().usable, 3);
}

TEST_F(CpuBudgetTest, GarbageIsNoLimit) {
  put("proc/self/cgroup", "nonsense\n0:\n::\n");
  put("sys/fs/cgroup/cpu.max", "lots\n");
  EXPECT_EQ(budget().cgroup_cores, 0);
  EXPECT_GE(cpu_budget(folder_ / "absent").usable, 1);
  EXPECT_GE(cpu_budget().usable, 1) << "this machine";
}

TEST(CoreList, ThereAndBack) {
  for (const std::string text : {"0", "0-3", "0-3,8", "1,3,5-7,64-127", ""}) {
    EXPECT_EQ(core_list(parse_core_list(text)), text);
  }
  EXPECT_THAT(parse_core_list("0-2,x"), testing::ElementsAre(0, 1, 2));
  EXPECT_LE(parse_core_list("0-2147483647").size(), 65536u);
}

TEST(DefaultThreads, RanksBoundToCoresOfTheirOwnKeepThem) {
  using Cores = std::vector<int>;
  CpuBudget budget{.cores = {0, 1, 2, 3}, .affinity_cores = 4, .usable = 4};
  const std::vector<Cores> apart{{0, 1, 2, 3}, {4, 5, 6, 7}}, together{{0, 1, 2, 3}, {0, 1, 2, 3}};
  EXPECT_EQ(default_threads_per_rank(budget, apart), 4);
  EXPECT_EQ(default_threads_per_rank(budget, together), 2);
  budget.cgroup_cores = 5;
  EXPECT_EQ(default_threads_per_rank(budget, apart), 2) << "the quota is the host's";
}

}  // namespace
}  // namespace tugline
