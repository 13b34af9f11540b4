// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/doctor/device_probe.hpp"

#include <gmock/gmock.h>

#include <mutex>
#include <sstream>

#include <boost/json.hpp>

#include "tugline/core/error.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/support/device_double.hpp"
#include "tugline/trainers/doctor/doctor.hpp"

namespace tugline {
namespace {

constexpr std::int64_t kBytes = 1 << 20;

/// Events tell a made-up time: whatever is measured takes as long as this rank's device says.
class TimedDouble final : public DeviceDouble {
 public:
  explicit TimedDouble(std::vector<double> seconds_of_copy) : DeviceDouble(static_cast<int>(seconds_of_copy.size())), seconds_of_copy_(std::move(seconds_of_copy)) {}
  void set_device(int device) override {
    DeviceDouble::set_device(device);
    device_of_thread() = device;
  }
  float elapsed_ms(Event, Event) override { return static_cast<float>(1e3 * seconds_of_copy_.at(static_cast<std::size_t>(device_of_thread()))); }

 private:
  static int& device_of_thread() {
    thread_local int device = 0;
    return device;
  }
  const std::vector<double> seconds_of_copy_;
};

struct Report {
  int code = -1;
  std::string text;
};
Report run(const std::shared_ptr<DeviceDouble>& api, ReportFormat format) {
  std::mutex mutex;
  Report report;
  std::vector<int> codes;
  run_thread_team(api->device_count(), [&](std::unique_ptr<Communicator> communicator) {
    World world(std::move(communicator));
    std::ostringstream out;
    const int code = run_device_doctor(world, api, out, format, {.bytes = kBytes, .rounds = 3});
    const std::lock_guard lock(mutex);
    codes.push_back(code);
    if (world.rank() == 0) report = {code, out.str()};
    EXPECT_EQ(out.str().empty(), world.rank() != 0);
  });
  EXPECT_THAT(codes, testing::Each(report.code));
  EXPECT_THAT(api->misuses(), testing::IsEmpty());
  EXPECT_EQ(api->alive(), 0);
  return report;
}

TEST(DeviceProbe, RatesAreBytesOverTheDevicesOwnSeconds) {
  for (const int ranks : {1, 2, 3}) {
    const auto api = std::make_shared<TimedDouble>(std::vector<double>(static_cast<std::size_t>(ranks), 1e-3));
    const Report report = run(api, ReportFormat::json);
    EXPECT_EQ(report.code, 0);
    const boost::json::value fields = boost::json::parse(report.text);
    EXPECT_EQ(fields.at("status").as_string(), "ok");
    ASSERT_EQ(fields.at("ranks").as_array().size(), static_cast<std::size_t>(ranks));
    for (const auto& rank : fields.at("ranks").as_array()) {
      EXPECT_NEAR(rank.at("to_device_gb_per_s").to_number<double>(), 1e-9 * kBytes / 1e-3, 1e-6);
      EXPECT_NEAR(rank.at("to_host_gb_per_s").to_number<double>(), 1e-9 * kBytes / 1e-3, 1e-6);
      EXPECT_NEAR(rank.at("all_reduce_gb_per_s").to_number<double>(), 8 * 1e-9 * kBytes / 1e-3 * 2 * (ranks - 1) / ranks, 1e-6);
    }
    EXPECT_GT(api->launches(), ranks == 1 ? -1 : 3 * ranks) << "sums went over NCCL";
  }
}

TEST(DeviceProbe, ASlowLinkIsANoThatNamesItsRank) {
  const Report report = run(std::make_shared<TimedDouble>(std::vector<double>{1e-3, 2.5e-3, 1.2e-3}), ReportFormat::text);
  EXPECT_EQ(report.code, 3);
  EXPECT_THAT(report.text, testing::HasSubstr("NCCL sums over 3 ranks at a bus bandwidth of 4.5 GB/s\n"));
  EXPECT_THAT(report.text, testing::ContainsRegex("-> rank 1 on .* copies to its device at 0.4 GB/s and rank 0 at 1.0"));
  EXPECT_THAT(report.text, testing::ContainsRegex("-> rank 1 on .* copies from its device"));
}

TEST(DeviceProbe, RealEventsHavePositiveRates) {
  const Report report = run(std::make_shared<DeviceDouble>(2), ReportFormat::json);
  const boost::json::value fields = boost::json::parse(report.text);
  for (const auto& rank : fields.at("ranks").as_array()) {
    for (const char* rate : {"to_device_gb_per_s", "to_host_gb_per_s", "all_reduce_gb_per_s"}) EXPECT_GT(rank.at(rate).to_number<double>(), 0);
  }
}

}  // namespace
}  // namespace tugline
