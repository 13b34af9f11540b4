// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/doctor/checks.hpp"

#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/device.hpp"
#include "tugline/trainers/doctor/doctor.hpp"

namespace tugline {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kGiB = std::int64_t{1} << 30;

RankFacts a_rank(int rank, std::vector<int> cores, int online_cores = 4) {
  return {.rank = rank,
          .host = "a",
          .cores = std::move(cores),
          .online_cores = online_cores,
          .shm_bytes = kGiB,
          .build = "tugline 1"};
}

void expect(const Check& check, Status status, const std::string& detail, const std::string& advice = "") {
  EXPECT_EQ(check.status, status) << check.name;
  EXPECT_EQ(check.detail, detail);
  EXPECT_THAT(check.advice, HasSubstr(advice));
  EXPECT_EQ(check.advice.empty(), check.status == Status::ok) << "advice where something is to be done, and only there";
}

TEST(CheckBinding, RanksThatShareAllCoresAreFine) {
  expect(check_binding({a_rank(0, {0, 1, 2, 3}), a_rank(1, {0, 1, 2, 3})}), Status::ok, "ranks 0-1: cores 0-3");
}

TEST(CheckBinding, RanksWithCoresOfTheirOwnAreFine) {
  expect(check_binding({a_rank(0, {0, 1}), a_rank(1, {2, 3})}), Status::ok, "rank 0: cores 0-1; rank 1: cores 2-3");
}

TEST(CheckBinding, OneCoreEachIsFineWhereThereAreNoMore) {
  expect(check_binding({a_rank(0, {0}, 2), a_rank(1, {1}, 2)}), Status::ok, "rank 0: cores 0; rank 1: cores 1");
}

TEST(CheckBinding, OneCoreEachWithMoreToSpare) {
  expect(check_binding({a_rank(0, {0}), a_rank(1, {1})}), Status::warn, "rank 0: cores 0; rank 1: cores 1",
         "--bind-to none");
  expect(check_binding({a_rank(0, {0}, 2)}), Status::warn, "rank 0: cores 0", "--map-by slot:PE=2");
}

TEST(CheckBinding, AQuotaLeavesNothingToSpare) {
  RankFacts rank = a_rank(0, {0});
  rank.cgroup_cores = 1.5;
  expect(check_binding({rank}), Status::ok, "rank 0: cores 0");
}

TEST(CheckBinding, TwoRanksOnOneCore) {
  expect(check_binding({a_rank(0, {0}), a_rank(1, {0})}), Status::warn, "ranks 0-1: cores 0", "2 ranks are tied to 1 core");
}

TEST(CheckBinding, MoreRanksThanCores) {
  expect(check_binding({a_rank(0, {0, 1}, 2), a_rank(1, {0, 1}, 2), a_rank(2, {0, 1}, 2)}), Status::warn,
         "ranks 0-2: cores 0-1", "3 ranks share 2 cores");
}

TEST(CheckBinding, HostsAreJudgedOneByOne) {
  RankFacts elsewhere = a_rank(1, {0});
  elsewhere.host = "b";
  expect(check_binding({a_rank(0, {0, 1, 2, 3}), elsewhere}), Status::warn, "rank 0: cores 0-3; rank 1: cores 0",
         "rank 1 is tied");
}

TEST(CheckCpuLimit, NoneEnoughAndTooLittle) {
  std::vector<RankFacts> ranks{a_rank(0, {0, 1}), a_rank(1, {0, 1})};
  expect(check_cpu_limit(ranks), Status::ok, "none");
  for (RankFacts& rank : ranks) rank.cgroup_cores = 2.5;
  expect(check_cpu_limit(ranks), Status::ok, "control group allows 2.5 cores");
  for (RankFacts& rank : ranks) rank.cgroup_cores = 1.5;
  expect(check_cpu_limit(ranks), Status::warn, "control group allows 1.5 cores", "2 ranks on a get 1.5 cores together");
}

TEST(CheckLoad, ABusyHostIsNamed) {
  std::vector<RankFacts> ranks{a_rank(0, {0}), a_rank(1, {0})};
  ranks[1].host = "b";
  expect(check_load(ranks), Status::ok, "a: 0.00 on 4 cores; b: 0.00 on 4 cores");
  ranks[1].load = 3.5;
  expect(check_load(ranks), Status::warn, "a: 0.00 on 4 cores; b: 3.50 on 4 cores", "something else runs on b");
}

TEST(CheckSharedMemory, LittleAndNone) {
  RankFacts rank = a_rank(0, {0});
  expect(check_shared_memory({rank}), Status::ok, "1.0 GiB free");
  rank.shm_bytes = 64 << 20;
  expect(check_shared_memory({rank}), Status::warn, "64 MiB free", "--shm-size");
  rank.shm_bytes = -1;
  expect(check_shared_memory({rank}), Status::warn, "not there", "--shm-size");
}

TEST(CheckMpi, NeedsThreads) {
  expect(check_mpi("2 ranks on 1 host, mpi (Open MPI 4.1.4), thread level serialized"), Status::ok,
         "2 ranks on 1 host, mpi (Open MPI 4.1.4), thread level serialized");
  expect(check_mpi("2 ranks on 1 host, mpi (X), thread level funneled"), Status::fail,
         "2 ranks on 1 host, mpi (X), thread level funneled", "MPI_THREAD_SERIALIZED");
}

TEST(CheckBuild, DifferentBuildsFail) {
  std::vector<RankFacts> ranks{a_rank(0, {0}), a_rank(1, {0}), a_rank(2, {0})};
  expect(check_build(ranks), Status::ok, "tugline 1");
  ranks[1].build = "tugline 2";
  expect(check_build(ranks), Status::fail, "ranks 0,2: tugline 1; rank 1: tugline 2", "same build");
}

TEST(CheckRoot, OnlyAnUnpreparedRootIsWarned) {
  expect(check_root(false, false), Status::ok, "not root");
  expect(check_root(true, true), Status::ok, "root, and Open MPI is told that this is meant");
  expect(check_root(true, false), Status::warn, "root, whom Open MPI's mpirun refuses", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
}

TEST(CheckTorch, WantsABlas) {
  expect(check_torch({.version = "2.11.0", .blas = "mkl", .instructions = "AVX2"}), Status::ok, "2.11.0, BLAS mkl, AVX2");
  expect(check_torch({.version = "2.11.0", .instructions = "AVX2"}), Status::warn, "2.11.0, BLAS none, AVX2", "setup.sh");
}

TEST(CheckDevices, SaysWhatThereIsAndWhatThisBuildCanUse) {
  const GpuDriver two{.present = true, .cuda_version = 13000, .gpus = {{"H200", 139 * kGiB}, {"H200", 139 * kGiB}}};
  expect(check_devices({}), Status::ok, "none (no driver); this build is for CPUs only");
  expect(check_devices({.built_for = 13000}), Status::ok, "none (no driver); this build is for CPUs and CUDA 13.0");
  expect(check_devices({.built_for = 13000, .driver = {.present = true, .trouble = "no GPU"}}), Status::ok,
         "none (the driver says: no GPU); this build is for CPUs and CUDA 13.0");
  expect(check_devices({.driver = two}), Status::warn, "2 x H200 (139.0 GiB), driver for CUDA 13.0; this build is for CPUs only",
         "cmake --preset cuda");
  expect(check_devices({.built_for = 13000, .usable = 2, .driver = two}), Status::ok,
         "2 x H200 (139.0 GiB), driver for CUDA 13.0; this build is for CPUs and CUDA 13.0");
}

TEST(CheckDevices, GpusThatLibTorchCannotUseAreAWarning) {
  const GpuDriver old{.present = true, .cuda_version = 12040, .gpus = {{"T4", 15 * kGiB}, {"P4", 8 * kGiB}}};
  expect(check_devices({.built_for = 13000, .driver = old}), Status::warn,
         "T4 (15.0 GiB), P4 (8.0 GiB), driver for CUDA 12.4; this build is for CPUs and CUDA 13.0", "install a newer driver");
}

TEST(CheckDevices, NamesNccl) {
  expect(check_devices({.built_for = 13000, .nccl = 22809}), Status::ok, "none (no driver); this build is for CPUs and CUDA 13.0, NCCL 2.28.9");
}

TEST(CheckDeviceMap, SaysWhoComputesWhereAndWhoWouldShare) {
  std::vector<RankFacts> ranks{a_rank(0, {0}), a_rank(1, {0}), a_rank(2, {0})};
  EXPECT_EQ(check_device_map(ranks).detail, "");
  for (RankFacts& rank : ranks) {
    rank.host = rank.rank == 2 ? "b" : "a";
    rank.gpu = rank.rank % 2;
    rank.gpu_bus = rank.rank % 2 == 0 ? "0000:3b:00.0" : "0000:af:00.0";
  }
  const std::string well = "rank 0 on a cuda:0 (0000:3b:00.0), rank 1 on a cuda:1 (0000:af:00.0), rank 2 on b cuda:0 (0000:3b:00.0)";
  expect(check_device_map(ranks), Status::ok, well);
  ranks[2].host = "a";
  expect(check_device_map(ranks), Status::warn, "rank 0 on a cuda:0 (0000:3b:00.0), rank 1 on a cuda:1 (0000:af:00.0), rank 2 on a cuda:0 (0000:3b:00.0)",
         "ranks 0 and 2 would share one GPU of a");
  // A launcher that shows each rank one GPU: all say cuda:0, and mean different ones.
  for (RankFacts& rank : ranks) rank.gpu = 0, rank.gpu_bus = fmt::format("0000:{:02x}:00.0", rank.rank);
  EXPECT_EQ(check_device_map(ranks).status, Status::ok);
  ranks[1].gpu = -1;
  expect(check_device_map(ranks), Status::warn, "rank 0 on a cuda:0 (0000:00:00.0), rank 1 on a none, rank 2 on a cuda:0 (0000:02:00.0)", "rank 1 on a sees no GPU");
}

TEST(CheckDeviceLinks, NamesTheSlowPairs) {
  constexpr auto no = PeerLink::none, bus = PeerLink::pcie, fast = PeerLink::nvlink;
  EXPECT_EQ(check_device_links({}).detail, "");
  EXPECT_EQ(check_device_links({.driver = {.links = {{no}}}}).detail, "");
  expect(check_device_links({.driver = {.links = {{no, fast}, {fast, no}}}}), Status::ok, "NVLink 0-1");
  expect(check_device_links({.driver = {.links = {{no, bus, bus}, {bus, no, bus}, {bus, bus, no}}}}), Status::ok, "PCIe between all 3");
  expect(check_device_links({.driver = {.links = {{no, fast, no}, {fast, no, bus}, {no, bus, no}}}}), Status::warn, "no peer access 0-2, PCIe 1-2, NVLink 0-1",
         "through the host's memory");
}

TEST(CheckFileSystem, EachFaultHasItsConsequence) {
  const FileSystemFacts good{.folder = "/runs", .free_bytes = 5 * kGiB};
  expect(check_file_system(good), Status::ok, "/runs: 5.0 GiB free, fsync, rename, flock and link work");
  FileSystemFacts facts = good;
  facts.link = "Operation not permitted";
  expect(check_file_system(facts), Status::warn, "/runs: 5.0 GiB free, link: Operation not permitted",
         "sweeps need hard links");
  facts.rename = "No";
  expect(check_file_system(facts), Status::fail, "/runs: 5.0 GiB free, rename: No, link: Operation not permitted",
         "can rename");
  facts = good;
  facts.lock = "No locks available";
  expect(check_file_system(facts), Status::warn, "/runs: 5.0 GiB free, flock: No locks available", "two jobs");
  facts = good;
  facts.sync = "Invalid argument";
  expect(check_file_system(facts), Status::warn, "/runs: 5.0 GiB free, fsync: Invalid argument", "power cut");
  facts = good;
  facts.free_bytes = 1 << 20;
  expect(check_file_system(facts), Status::warn, "/runs: 1 MiB free, fsync, rename, flock and link work", "may not fit");
  facts = good;
  facts.write = "Permission denied";
  expect(check_file_system(facts), Status::fail, "/runs: 5.0 GiB free, cannot write: Permission denied", "--run-dir");
}

TEST(CheckSharedFolder, NamesTheBlindRanks) {
  std::vector<RankFacts> ranks{a_rank(0, {0}), a_rank(1, {0}), a_rank(2, {0})};
  expect(check_shared_folder(ranks, "/runs"), Status::ok, "every rank sees the run folder");
  ranks[1].sees_folder = ranks[2].sees_folder = false;
  expect(check_shared_folder(ranks, "/runs"), Status::warn, "ranks 1-2 cannot see what rank 0 wrote to /runs",
         "all hosts share");
}

TEST(Report, TextHasOneLinePerCheckAndOnePerAdvice) {
  const std::vector<Check> checks{{"mpi", Status::ok, "fine"},
                                  {"binding", Status::warn, "rank 0: cores 0", "add --bind-to none"}};
  EXPECT_EQ(report_text(checks),
            "ok    mpi      fine\nwarn  binding  rank 0: cores 0\n               -> add --bind-to none\n");
}

TEST(Report, JsonHasTheWorstStatusOnTop) {
  std::vector<Check> checks{{"mpi", Status::ok, "fine"}, {"load", Status::warn, "high", "wait"}};
  EXPECT_EQ(boost::json::parse(report_json(checks)).at("status").as_string(), "warn");
  checks.push_back({"build", Status::fail, "differs", "install"});
  const boost::json::value report = boost::json::parse(report_json(checks));
  EXPECT_EQ(report.at("status").as_string(), "fail");
  EXPECT_EQ(report.at("checks").as_array().size(), 3u);
  EXPECT_EQ(report.at("checks").as_array().at(1).at("advice").as_string(), "wait");
}

}  // namespace
}  // namespace tugline
