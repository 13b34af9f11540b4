// SPDX-License-Identifier: Apache-2.0
// How ranks come to one outcome.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tugline/core/error.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Outcome {
  ExitCode code = ExitCode::done;
  std::string text;
  bool operator==(const Outcome&) const = default;
};

/// What each rank catches of `body`; all must catch an AgreedError alike.
Outcome agreed_outcome(int ranks, const std::function<void(Communicator&)>& body) {
  std::vector<Outcome> outcomes(static_cast<std::size_t>(ranks));
  run_thread_team(ranks, [&](std::unique_ptr<Communicator> communicator) {
    try {
      body(*communicator);
    } catch (const AgreedError& error) {
      outcomes[static_cast<std::size_t>(communicator->rank())] = {error.exit_code(), error.what()};
    }
  });
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome, outcomes[0]);
  return outcomes[0];
}

class Ranks : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(, Ranks, testing::Values(1, 2, 3, 4, 13), testing::PrintToStringParamName());

TEST_P(Ranks, AgreeOnSuccess) {
  std::vector<int> ran(static_cast<std::size_t>(GetParam()));
  const Outcome outcome = agreed_outcome(GetParam(), [&](Communicator& control) {
    agree(control, [&] { ran[static_cast<std::size_t>(control.rank())] = 1; });
  });
  EXPECT_EQ(outcome, Outcome{});
  EXPECT_THAT(ran, testing::Each(1));
}

TEST_P(Ranks, AgreeOnTheErrorOfTheOnlyRankThatSawIt) {
  const int last = GetParam() - 1;
  const Outcome outcome = agreed_outcome(GetParam(), [&](Communicator& control) {
    agree(control, [&] {
      if (control.rank() == last) throw IoError("disk full");
    });
  });
  EXPECT_EQ(outcome, (Outcome{ExitCode::io, "disk full"}));
}

TEST_P(Ranks, AgreeOnTheLowestRanksError) {
  const Outcome outcome = agreed_outcome(GetParam(), [](Communicator& control) {
    agree(control, [&] { throw DataError("seen by rank " + std::to_string(control.rank())); });
  });
  EXPECT_EQ(outcome, (Outcome{ExitCode::bad_data, "seen by rank 0"}));
}

TEST_P(Ranks, AForeignExceptionIsAnInternalError) {
  const Outcome outcome = agreed_outcome(GetParam(), [](Communicator& control) {
    agree(control, [] { throw std::out_of_range("map::at"); });
  });
  EXPECT_EQ(outcome, (Outcome{ExitCode::internal, "map::at"}));
}

TEST_P(Ranks, NameTheFirstFactInWhichTheyDiffer) {
  const int last = GetParam() - 1;
  const Outcome outcome = agreed_outcome(GetParam(), [&](Communicator& control) {
    const std::string mine = control.rank() == last && last > 0 ? "[4, 3]" : "[3, 4]";
    require_equal(control, {{"number of parameters", "2"}, {"parameter a", mine}, {"parameter b", mine}});
  });
  if (last == 0) {
    EXPECT_EQ(outcome, Outcome{});
  } else {
    EXPECT_EQ(outcome.code, ExitCode::disagree);
    EXPECT_EQ(outcome.text, "ranks disagree on parameter a: rank 0 has '[3, 4]', rank " + std::to_string(last) + " has '[4, 3]'");
  }
}

TEST_P(Ranks, KnowTheirHost) {
  run_thread_team(GetParam(), [&](std::unique_ptr<Communicator> communicator) {
    World world(std::move(communicator));
    EXPECT_EQ(world.size(), GetParam());
    EXPECT_EQ(world.local_rank(), world.rank());
    EXPECT_EQ(world.local_size(), GetParam());
    EXPECT_THAT(world.description(), HasSubstr(GetParam() == 1 ? "1 rank on 1 host, threads" : "ranks on 1 host, threads"));
  });
}

TEST(WorldBackend, UnknownNamesAreRefused) {
  int argc = 0;
  char** argv = nullptr;
  EXPECT_THROW(World(argc, argv, "nccl"), ConfigError);
  World alone(argc, argv, "threads");
  EXPECT_EQ(alone.size(), 1);
  EXPECT_THAT(alone.hosts(), testing::SizeIs(1));
}

}  // namespace
}  // namespace tugline
