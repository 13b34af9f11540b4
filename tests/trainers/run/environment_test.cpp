// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run/environment.hpp"

#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

TEST(Environment, EveryRankKnowsAllOfThem) {
  for (const int ranks : {1, 2, 3}) {
    run_thread_team(ranks, [ranks](std::unique_ptr<Communicator> communicator) {
      World world(std::move(communicator));
      const boost::json::object facts = gather_environment(
          world, {.command_line = {"tugline", "train", "a b.yaml"}, .versions = {{"libtorch", "2.11.0"}}});
      EXPECT_EQ(facts.at("ranks").as_int64(), ranks);
      const boost::json::array& bindings = facts.at("bindings").as_array();
      ASSERT_EQ(bindings.size(), static_cast<std::size_t>(ranks));
      for (const boost::json::value& binding : bindings) {
        EXPECT_NE(binding.at("host").as_string(), "");
        EXPECT_NE(binding.at("cores").as_string(), "");
      }
      EXPECT_EQ(facts.at("command_line").as_array().at(2).as_string(), "a b.yaml");
      EXPECT_THAT(std::string(facts.at("started").as_string()),
                  testing::ContainsRegex("^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z$"));
      const boost::json::object& versions = facts.at("versions").as_object();
      for (const char* name : {"tugline", "boost", "mpi", "libtorch"}) EXPECT_TRUE(versions.contains(name)) << name;
    });
  }
}

TEST(Environment, CoresInAFewWords) {
  const auto environment = boost::json::parse(R"({"bindings": [{"host": "alpha", "cores": "0", "cgroup_cores": 0.0},
      {"host": "alpha", "cores": "1", "cgroup_cores": 0.0}, {"host": "beta", "cores": "0-3", "cgroup_cores": 1.5}]})");
  EXPECT_EQ(describe_cores(environment.as_object()), "cores 0 | 1 of alpha, 0-3 (1.5 by quota) of beta");
}

}  // namespace
}  // namespace tugline
