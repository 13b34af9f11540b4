// SPDX-License-Identifier: Apache-2.0
// One trial in ten goes wrong, in one of five ways, always or only the first time. TUGLINE_TRIALS: how many trials (200).
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <limits>

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

class TrialFaults : public TemporaryFolder {};

TEST_F(TrialFaults, EachTrialEndsAsItsOwnFaultSaysAndNoOtherIsTouched) {
  const char* const wanted = std::getenv("TUGLINE_TRIALS");
  const std::int64_t trials = wanted != nullptr ? std::atoll(wanted) : 200;
  write(folder_ / "base.yaml", "seed: 0\n");
  write(folder_ / "s.yaml", fmt::format("sweep: {{name: s, dir: {}, base: base.yaml}}\nspace: {{seed: {{int: [0, {}]}}}}\nsearch: {{method: grid}}\n"
                                        "budget: {{trials: {}}}\nrun: {{max_attempts: {}, timeout: 1 s}}\n",
                                        (folder_ / "s").string(), trials - 1, trials, kAttempts));
  const SweepConfig sweep = load_sweep(folder_ / "s.yaml");
  std::int64_t told = 0;
  ASSERT_EQ(run_crew(sweep, folder_ / "s.yaml", {.workers = 4, .of = 4}, {.say = [&](const std::string& line) { told += line.starts_with("trial"); }, .draw = {}}),
            ExitCode::done);
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

}  // namespace
}  // namespace tugline::sweep

int main(int argc, char** argv) {
  int exit_code = 0;
  if (tugline::sweep::is_worker_or_trial(argc, argv, tugline::sweep::train, exit_code)) return exit_code;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
