// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/doctor/doctor.hpp"

#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <mutex>
#include <sstream>

#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

class DoctorTest : public TemporaryFolder {
 protected:
  /// What rank 0 printed; every rank must return `code` and the others print nothing.
  static std::string examine(int ranks, const std::filesystem::path& folder, ReportFormat format, int code) {
    std::mutex mutex;
    std::string printed;
    run_thread_team(ranks, [&](std::unique_ptr<Communicator> communicator) {
      World world(std::move(communicator));
      std::ostringstream out;
      EXPECT_EQ(run_doctor(world, folder, out, format), code);
      const std::lock_guard lock(mutex);
      if (world.rank() == 0)
        printed = out.str();
      else
        EXPECT_EQ(out.str(), "");
    });
    return printed;
  }
};

TEST_F(DoctorTest, ReportsEveryTopicAtAnyRankCount) {
  for (const int ranks : {1, 2, 3}) {
    const std::string report = examine(ranks, folder_ / "runs", ReportFormat::text, 0);
    for (const char* topic : {"mpi", "build", "user", "binding", "cpu limit", "load", "/dev/shm", "libtorch", "devices",
                              "run folder", "same folder", "progress"}) {
      EXPECT_THAT("\n" + report, testing::ContainsRegex("\n(ok|warn)  +" + std::string(topic) + " ")) << topic;
    }
    EXPECT_THAT(report, testing::HasSubstr("every rank sees the run folder"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_)) << "nothing is left behind";
}

TEST_F(DoctorTest, AFolderThatCannotBeWrittenIsANo) {
  const boost::json::value report = boost::json::parse(examine(2, "/proc", ReportFormat::json, 3));
  EXPECT_EQ(report.at("status").as_string(), "fail");
}

TEST_F(DoctorTest, KnowsItsLibTorch) {
  EXPECT_THAT(torch_facts().version, testing::StartsWith("2."));
  EXPECT_NE(torch_facts().blas, "");
  EXPECT_TRUE(library_versions().contains("libtorch"));
}

}  // namespace
}  // namespace tugline
