// SPDX-License-Identifier: Apache-2.0
// Crews of real worker processes, whose trials are short. Of 200 (TUGLINE_TRIALS) one in ten goes wrong, in one of five ways, always or only
// the first time.
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tugline/tests/support/pretend_training.hpp"
#include "tugline/tests/support/temporary_folder.hpp"
#include "tugline/trainers/sweep/crew.hpp"
#include "tugline/trainers/sweep/report.hpp"

namespace tugline::sweep {
namespace {

constexpr int kAttempts = 3;

enum class Fault { none, segfault, killed, hangs, not_a_number, exits };
Fault fault_of(std::int64_t seed) { return seed % 10 == 3 ? static_cast<Fault>(1 + seed / 10 % 5) : Fault::none; }
bool passes(std::int64_t seed) { return seed / 50 % 2 == 0; }   // a second attempt would go well
double loss_of(std::int64_t seed) { return 1.0 / static_cast<double>(seed + 1); }

int train(const PretendTraining& training) {
  if (training.attempt > 1 && passes(training.seed)) return training.finish(loss_of(training.seed));
  switch (fault_of(training.seed)) {
    case Fault::none: return training.finish(loss_of(training.seed));
    case Fault::segfault: ::raise(SIGSEGV); break;
    case Fault::killed: ::raise(SIGKILL); break;
    case Fault::hangs: while (true) ::pause();
    case Fault::not_a_number: return training.diverge();
    case Fault::exits: return 3;
  }
  return 1;
}

struct Expected {
  std::string state = "done";
  int attempts = 1;
  bool operator==(const Expected&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Expected& end) { return out << end.state << " after " << end.attempts; }

Expected expected_of(std::int64_t seed) {
  const Fault fault = fault_of(seed);
  if (fault == Fault::none) return {};
  if (fault == Fault::not_a_number) return {"diverged", 1};
  if (passes(seed)) return {"done", 2};
  return {fault == Fault::hangs ? "timed out" : "crashed", kAttempts};
}

class Crews : public TemporaryFolder {
 protected:
  SweepConfig sweep_of(const std::string& name, std::int64_t seeds, const std::string& more) const {
    write(folder_ / "base.yaml", "seed: 0\n");
    write(folder_ / (name + ".yaml"), fmt::format("sweep: {{name: {0}, dir: {1}/{0}, base: base.yaml}}\nspace: {{seed: {{int: [0, {2}]}}}}\n{3}\n",
                                                  name, folder_.string(), seeds - 1, more));
    return load_sweep(folder_ / (name + ".yaml"));
  }
  ExitCode run(const SweepConfig& sweep, int workers, const std::function<void(const std::string&)>& say = [](const std::string&) {}) const {
    return run_crew(sweep, folder_ / (sweep.name + ".yaml"), {.workers = workers, .of = workers}, {.say = say, .draw = {}});
  }
};

TEST_F(Crews, EachTrialEndsAsItsOwnFaultSaysAndNoOtherIsTouched) {
  const char* const wanted = std::getenv("TUGLINE_TRIALS");
  const std::int64_t trials = wanted != nullptr ? std::atoll(wanted) : 200;
  const SweepConfig sweep = sweep_of("s", trials, fmt::format("search: {{method: grid}}\nbudget: {{trials: {}}}\nrun: {{max_attempts: {}, timeout: 5 s}}",
                                                              trials, kAttempts));
  std::int64_t told = 0;
  ASSERT_EQ(run(sweep, 4, [&](const std::string& line) { told += line.starts_with("trial"); }), ExitCode::done);
  SweepFolder folder(sweep);
  folder.refresh();
  const auto rows = trial_rows(folder);
  ASSERT_EQ(rows.size(), static_cast<std::size_t>(trials));
  int attempts = 0;
  for (const TrialRow& row : rows) {
    const auto seed = static_cast<std::int64_t>(row.point[0]);
    EXPECT_EQ(seed, row.trial);
    EXPECT_EQ((Expected{row.state, row.attempts}), expected_of(seed)) << "trial " << row.trial << ": " << row.outcome.why;
    EXPECT_DOUBLE_EQ(row.value, row.state == "done" ? loss_of(seed) : std::numeric_limits<double>::infinity());
    attempts += row.attempts;
  }
  EXPECT_EQ(told, trials);
  std::cout << fmt::format("{} trials, {} attempts\n", rows.size(), attempts);
}

/// A process that had read a decision before a disk damaged it learns that it is lost, and whoever comes between its two last entries ends it.
TEST_F(Crews, AllLearnThatADecisionIsLost) {
  const SweepConfig sweep = sweep_of("s", 1000, "search: {method: random}\nbudget: {trials: 2}");
  ASSERT_EQ(run(sweep, 1), ExitCode::done);
  SweepFolder before(sweep), finder(sweep), later(sweep);
  before.refresh();
  ASSERT_FALSE(before.jobs()[0].decision.is_lost());
  write(folder_ / "s/jobs/000/000000.0", "damaged");
  finder.refresh();
  EXPECT_EQ(finder.take_over(), std::nullopt);
  EXPECT_TRUE(std::holds_alternative<Decision>(finder.planner().next(finder.jobs()))) << "trial 0 is due again, at once";
  before.refresh();
  EXPECT_TRUE(before.jobs()[0].decision.is_lost());
  EXPECT_TRUE(before.jobs()[0].ended);
  std::filesystem::remove(folder_ / "s/jobs/000/000000.3");
  later.refresh();
  EXPECT_TRUE(std::holds_alternative<Planner::Wait>(later.planner().next(later.jobs())));
  EXPECT_EQ(later.take_over(), std::nullopt);
  EXPECT_TRUE(later.jobs()[0].ended) << "without a lease";
}

/// `repeat: lag`: however many work, and in whatever order their trials end, the decisions are the same, and the same again.
TEST_F(Crews, WithALagAnyNumberOfWorkersMakesTheSameTable) {
  std::vector<std::vector<std::string>> tables;
  for (const int workers : {1, 4, 16}) {
    const SweepConfig sweep = sweep_of(fmt::format("w{}", workers), 1'000'000'000, "search: {method: tpe}\nbudget: {trials: 32}\nrepeat: {mode: lag, lag: 16}\nrun: {timeout: 5 s}");
    ASSERT_EQ(run(sweep, workers), ExitCode::done);
    SweepFolder folder(sweep);
    folder.refresh();
    auto& table = tables.emplace_back();
    for (std::size_t j = 0; j < folder.jobs().size(); ++j) {
      table.push_back(folder.job(static_cast<std::int64_t>(j)).decision);
      const auto again = folder.planner().repeat(folder.jobs(), j);
      ASSERT_TRUE(again && std::holds_alternative<Decision>(*again));
      EXPECT_EQ(to_json(sweep.space, std::get<Decision>(*again)), table.back());
    }
    EXPECT_EQ(table.size(), 32u);
    EXPECT_EQ(table, tables.front()) << workers << " workers";
  }
}

}  // namespace
}  // namespace tugline::sweep

int main(int argc, char** argv) {
  int exit_code = 0;
  if (tugline::sweep::is_worker_or_trial(argc, argv, tugline::sweep::train, exit_code)) return exit_code;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
