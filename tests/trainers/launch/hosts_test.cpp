// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/launch/hosts.hpp"

#include <gmock/gmock.h>

#include "tugline/core/error.hpp"
#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

TEST(LaunchHosts, SlotsAsGivenOrSpread) {
  EXPECT_EQ(host_argument(parse_hosts("a:3,b:1", 4)), "a:3,b:1");
  EXPECT_EQ(host_argument(parse_hosts("a,b", 3)), "a:2,b:2");
  EXPECT_EQ(slots_of(parse_hosts("a,b", 3)), 4);
}

TEST(LaunchHosts, MistakesAreNamed) {
  const auto message = [](const char* text, int ranks) -> std::string {
    try {
      parse_hosts(text, ranks);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message("a,,b", 2), testing::HasSubstr("a name is missing"));
  EXPECT_THAT(message("a:x", 2), testing::HasSubstr("'a:x'"));
  EXPECT_THAT(message("a:0", 2), testing::HasSubstr("'a:0'"));
  EXPECT_THAT(message("a:1,b", 2), testing::HasSubstr("all hosts or for none"));
  EXPECT_THAT(message("a:1,b:1", 3), testing::HasSubstr("room for 2 ranks, and 3"));
}

class Reachable : public TemporaryFolder {};

TEST_F(Reachable, AreThoseThatAnswerInTime) {
  // Called as `mpirun -n 1 --host NAME:1 true`.
  write(folder_ / "mpirun", "case $4 in gone:1) exit 1;; mute:1) sleep 1000;; esac\n");
  const auto hosts = parse_hosts("here:2,gone:2,mute:2,there:2", 8);
  EXPECT_EQ(host_argument(reachable(hosts, {"/bin/sh", (folder_ / "mpirun").string()}, 0.5)), "here:2,there:2");
}

}  // namespace
}  // namespace tugline
