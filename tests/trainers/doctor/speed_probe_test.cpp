// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/doctor/speed_probe.hpp"

#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <mutex>
#include <sstream>

#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/support/temporary_folder.hpp"
#include "tugline/trainers/doctor/doctor.hpp"
#include "tugline/trainers/doctor/free_memory.hpp"

namespace tugline {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;

class MadeUpClock final : public Clock {
 public:
  double seconds() const override { return now_; }
  void advance(double seconds) { now_ += seconds; }

 private:
  double now_ = 0;
};

/// Takes no time but on two made-up clocks.
class MadeUpWork final : public SpeedWork {
 public:
  struct Pace {
    double unit_seconds = 1e-3, cpu_share = 1;
    int disturbed_call = 0;  ///< the call of that number, from 1 on, takes ten times as long
    double every_other = 1;  ///< calls of even number take so many times as long
  };
  MadeUpWork(Pace pace, MadeUpClock& wall, MadeUpClock& cpu) : pace_(pace), wall_(wall), cpu_(cpu) {}

  void run(std::int64_t units) override {
    last_units_ = units;
    double seconds = pace_.unit_seconds * static_cast<double>(units);
    if (++calls_ == pace_.disturbed_call) seconds *= 10;
    if (calls_ % 2 == 0) seconds *= pace_.every_other;
    wall_.advance(seconds);
    cpu_.advance(pace_.cpu_share * seconds);
  }
  double amount_per_unit() const override { return 1000; }
  std::int64_t last_units() const { return last_units_; }

 private:
  Pace pace_;
  MadeUpClock &wall_, &cpu_;
  std::int64_t last_units_ = 0;
  int calls_ = 0;
};

/// Runs a probe of 2 x 1 s whose rounds last 64 ms on the fastest rank; what rank 0 was told.
template <class PaceOf>
std::vector<SpeedFacts> probe_made_up(int ranks, PaceOf pace_of, std::vector<std::int64_t>* units = nullptr) {
  std::mutex mutex;
  std::vector<SpeedFacts> told;
  if (units != nullptr) units->resize(static_cast<std::size_t>(ranks));
  run_thread_team(ranks, [&](std::unique_ptr<Communicator> communicator) {
    World world(std::move(communicator));
    MadeUpClock wall, cpu;
    MadeUpWork arithmetic(pace_of(world.rank()), wall, cpu), memory(pace_of(world.rank()), wall, cpu);
    const auto facts =
        probe_speeds(world, arithmetic, memory, {.total_seconds = 2, .round_seconds = 0.064, .wall = wall, .cpu = cpu});
    const std::lock_guard lock(mutex);
    if (world.rank() == 0) told = facts;
    if (units != nullptr) (*units)[static_cast<std::size_t>(world.rank())] = arithmetic.last_units();
  });
  return told;
}

TEST(SpeedProbe, AllDoTheSameWorkAndEachItsOwnTime) {
  for (const int ranks : {1, 2, 3}) {
    std::vector<std::int64_t> units;
    const auto facts = probe_made_up(
        ranks, [](int rank) { return MadeUpWork::Pace{.unit_seconds = 1e-3 * (rank + 1), .cpu_share = 1.0 / (rank + 1)}; },
        &units);
    EXPECT_THAT(units, testing::Each(64));
    ASSERT_EQ(facts.size(), static_cast<std::size_t>(ranks));
    for (int r = 0; r < ranks; ++r) {
      const SpeedFacts& rank = facts[static_cast<std::size_t>(r)];
      EXPECT_EQ(rank.rank, r);
      EXPECT_NEAR(rank.cpu_share, 1.0 / (r + 1), 1e-9);
      for (const RoundFacts& kind : {rank.arithmetic, rank.memory}) {
        EXPECT_EQ(kind.rounds, static_cast<std::int64_t>(1 / (0.064 * (r + 1)))) << "one that ends too late does not count";
        EXPECT_NEAR(kind.median_seconds, 0.064 * (r + 1), 1e-9);
        EXPECT_NEAR(kind.best_seconds, 0.064 * (r + 1), 1e-9);
        EXPECT_NEAR(kind.per_second, 1e6 / (r + 1), 1e-3);
      }
    }
  }
}

TEST(SpeedProbe, ARankThatNeverGetsThroughARoundInTimeStillHasOne) {
  const auto facts = probe_made_up(2, [](int rank) { return MadeUpWork::Pace{.unit_seconds = rank == 0 ? 1e-3 : 1.0}; });
  EXPECT_EQ(facts[1].arithmetic.rounds, 1);
  EXPECT_NEAR(facts[1].arithmetic.median_seconds, 64, 1e-9);
}

TEST(SpeedProbe, OneDisturbedRoundMovesNothing) {
  const auto facts = probe_made_up(1, [](int) { return MadeUpWork::Pace{.disturbed_call = 12}; });
  EXPECT_NEAR(facts[0].arithmetic.median_seconds, 0.064, 1e-9);
  EXPECT_NEAR(facts[0].arithmetic.per_second, 1e6, 1e-3);
  EXPECT_NEAR(facts[0].arithmetic.p90_seconds, 0.64, 1e-9) << "it is told";
}

TEST(SpeedProbe, RoundsOfTwoKindsCountAsTheirMean) {
  const auto facts = probe_made_up(1, [](int) { return MadeUpWork::Pace{.every_other = 2}; });
  EXPECT_EQ(facts[0].arithmetic.rounds, 21);
  EXPECT_NEAR(facts[0].arithmetic.per_second, 1e6 * 17 / (9 + 8 * 2), 1e-3) << "11 and 10, less two at each end";
}

TEST(SpeedProbe, RealWorkHasPositiveFiguresAndOneCode) {
  for (const int ranks : {1, 3}) {
    std::mutex mutex;
    std::vector<int> codes;
    run_thread_team(ranks, [&](std::unique_ptr<Communicator> communicator) {
      World world(std::move(communicator));
      std::ostringstream out;
      const int code = run_speed_doctor(world, out, ReportFormat::json, {.seconds = 0.05, .buffer_bytes = 4 * kMiB});
      const std::lock_guard lock(mutex);
      codes.push_back(code);
      if (world.rank() != 0) {
        EXPECT_EQ(out.str(), "");
        return;
      }
      const boost::json::value report = boost::json::parse(out.str());
      EXPECT_EQ(report.at("status").as_string(), code == 0 ? "ok" : "fail");
      ASSERT_EQ(report.at("ranks").as_array().size(), static_cast<std::size_t>(ranks));
      for (const boost::json::value& rank : report.at("ranks").as_array()) {
        EXPECT_GT(rank.at("arithmetic").at("gflop_per_s").to_number<double>(), 0);
        EXPECT_GT(rank.at("memory").at("gb_per_s").to_number<double>(), 0);
        EXPECT_GT(rank.at("speed").to_number<double>(), 0);
        EXPECT_LE(rank.at("speed").to_number<double>(), 1);
        EXPECT_LE(rank.at("cpu").to_number<double>(), 1);
      }
    });
    EXPECT_TRUE(codes.front() == 0 || (codes.front() == 3 && ranks > 1)) << "as the machine is";
    EXPECT_THAT(codes, testing::Each(codes.front()));
  }
}

TEST(SpeedWork, TheBufferOutgrowsTheCacheAndLeavesTheMemoryToOthers) {
  constexpr std::int64_t kPlenty = 64 * 1024 * kMiB;
  EXPECT_EQ(stream_buffer_bytes(0, kPlenty, 4), 64 * kMiB);
  EXPECT_EQ(stream_buffer_bytes(50 * kMiB, kPlenty, 4), 100 * kMiB);
  EXPECT_EQ(stream_buffer_bytes(1000 * kMiB, kPlenty, 4), 1024 * kMiB);
  EXPECT_EQ(stream_buffer_bytes(50 * kMiB, 1024 * kMiB, 2), 32 * kMiB);
  EXPECT_EQ(stream_buffer_bytes(50 * kMiB, 0, 2), kMiB) << "nothing is known";
}

class FreeMemoryTest : public TemporaryFolder {
 protected:
  void SetUp() override {
    TemporaryFolder::SetUp();
    write(folder_ / "proc/meminfo", "MemTotal:  8000 kB\nMemFree:  1000 kB\nMemAvailable:  4000 kB\n");
  }
};

TEST_F(FreeMemoryTest, IsWhatTheMachineHas) {
  EXPECT_EQ(free_memory_bytes(folder_), 4000 * 1024);
  EXPECT_EQ(free_memory_bytes(folder_ / "none"), 0);
}

TEST_F(FreeMemoryTest, OrWhatAGroupAllows) {
  write(folder_ / "proc/self/cgroup", "0::/pod/box\n");
  write(folder_ / "sys/fs/cgroup/pod/box/memory.max", "max\n");
  EXPECT_EQ(free_memory_bytes(folder_), 4000 * 1024);
  write(folder_ / "sys/fs/cgroup/pod/memory.max", "65536\n");
  EXPECT_EQ(free_memory_bytes(folder_), 65536);
  write(folder_ / "proc/self/cgroup", "5:cpu:/\n4:memory:/box\n0::/\n");
  write(folder_ / "sys/fs/cgroup/memory/box/memory.limit_in_bytes", "32768\n");
  EXPECT_EQ(free_memory_bytes(folder_), 32768);
}

}  // namespace
}  // namespace tugline
