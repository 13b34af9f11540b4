// SPDX-License-Identifier: Apache-2.0
// Crews of real worker processes, whose trials are short. Of 200 (TUGLINE_TRIALS) one in ten goes wrong, in one of five ways, always or only
// the first time.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <limits>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tugline/core/log.hpp"
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

void be_deaf() {
  for (const int number : {SIGINT, SIGTERM, SIGUSR1}) ::signal(number, SIG_IGN);
}

/// Hears nothing but SIGKILL, and says who it is.
[[noreturn]] void train_on(const PretendTraining& training) {
  be_deaf();
  std::filesystem::create_directories(training.folder);
  std::ofstream(training.folder / "pid") << ::getpid() << std::endl;
  while (true) ::pause();
}

/// How workers of a sweep end when FILE.workers says it: a line each in the order of their starts, an exit code, "hangs" (after a trial) or
/// "deaf". Those behind the last line work.
bool ends_as_told(const std::filesystem::path& file, int& exit_code) {
  std::ifstream lines(file.string() + ".workers");
  std::string word, started;
  std::ifstream before(file.string() + ".started");
  while (std::getline(lines, word) && std::getline(before, started)) continue;
  if (!lines) return false;
  if (word == "deaf") be_deaf();
  std::ofstream(file.string() + ".started", std::ios::app) << ::getpid() << std::endl;
  if (word == "deaf") while (true) ::pause();
  if (word != "hangs") {
    std::cerr << "I end with " << word << std::endl;
    exit_code = std::stoi(word);
    return true;
  }
  const SweepConfig sweep = load_sweep(file);
  SweepFolder folder(sweep);
  folder.refresh();
  const auto work = folder.append(std::get<Decision>(folder.planner().next(folder.jobs())));
  folder.store().finish(work.value().claim, {true, to_json(Outcome())});
  while (true) ::pause();
}

int train(const PretendTraining& training) {
  if (std::filesystem::exists(training.folder.parent_path().parent_path().parent_path() / "deaf")) train_on(training);
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
    Replay replay(folder.planner(), folder.jobs());
    for (std::size_t j = 0; j < folder.jobs().size(); ++j) {
      table.push_back(folder.job(static_cast<std::int64_t>(j)).decision);
      const auto again = replay.next();
      ASSERT_TRUE(again && std::holds_alternative<Decision>(*again));
      EXPECT_EQ(to_json(sweep.space, std::get<Decision>(*again)), table.back());
    }
    EXPECT_EQ(table.size(), 32u);
    EXPECT_EQ(table, tables.front()) << workers << " workers";
  }
}

class StillClock final : public Clock {
 public:
  double seconds() const override { return now; }
  double now = 1000;
};

bool has_child() {
  siginfo_t facts{};
  return ::waitid(P_ALL, 0, &facts, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/// A crew of one. Its time passes only while no worker is there, a quarter of a second each time it looks, and it is always waked at once.
class OneWorker : public Crews {
 protected:
  void SetUp() override {
    Crews::SetUp();
    log::set_console([this](std::string_view line) {
      warnings_.emplace_back(line);
      ::raise(SIGCHLD);
    });
  }
  void TearDown() override {
    log::set_console(nullptr);
    Crews::TearDown();
  }
  ExitCode run_told(const std::string& workers) {
    const SweepConfig sweep = sweep_of("s", 1000, "search: {method: random}\nbudget: {trials: 100}");
    file_ = folder_ / "s.yaml";
    write(file_.string() + ".workers", workers);
    return run_crew(sweep, file_, {}, {.say = [this](const std::string& line) { hear(line); }, .draw = [this](const std::string&) { look(); }}, clock_);
  }
  std::vector<std::string> started() const {
    std::istringstream in(read(file_.string() + ".started"));
    return {std::istream_iterator<std::string>(in), {}};
  }
  /// A trial has ended, and the worker that did it hangs.
  void hear(const std::string& line) {
    said_.push_back(line);
    if (line.starts_with("trial")) ::kill(std::stoi(started().back()), SIGKILL);
  }
  void look() {
    if (has_child()) {
      if (pause_ > 0) pauses_.push_back(pause_);
      pause_ = 0;
      if (beside_ && !started().empty()) beside_();
      return;
    }
    pause_ += 0.25;
    clock_.now += 0.25;
    ::raise(SIGCHLD);
  }

  std::function<void()> beside_;   // each time it looks and a worker is there
  std::filesystem::path file_;
  StillClock clock_;
  double pause_ = 0;
  std::vector<double> pauses_;   // without a worker, each before another's start
  std::vector<std::string> said_, warnings_;
};

TEST_F(OneWorker, ThatDiesIsReplacedEachTimeLaterUntilItsPlaceStaysEmpty) {
  std::string workers = "74\n1\nhangs\n";
  for (int i = 0; i < 20; ++i) workers += "74\n";
  EXPECT_EQ(run_told(workers), ExitCode::io);
  EXPECT_EQ(started().size(), 13u) << "a trial that ends is a new beginning";
  EXPECT_THAT(pauses_, testing::ElementsAre(1, 2, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30));
  EXPECT_EQ(warnings_.front(), "warning: a worker ended with exit code 74 (file or checkpoint); another takes its place in 1 s");
  EXPECT_EQ(warnings_.back(), "warning: a worker ended with exit code 74 (file or checkpoint), like the 10 before it; its place stays empty");
  EXPECT_THAT(warnings_, testing::Contains("warning: a worker ended with SIGKILL; another takes its place in 1 s"));
  EXPECT_EQ(said_.front(), "I end with 74") << "what a worker prints comes above what is drawn";
}

TEST_F(OneWorker, ThatEndsForAReasonIsNotReplaced) {
  for (const ExitCode code : {ExitCode::done, ExitCode::run_again, ExitCode::config}) {
    std::filesystem::remove(folder_ / "s.yaml.started");
    EXPECT_EQ(run_told(fmt::format("{}\n1\n", static_cast<int>(code))), code);
    EXPECT_EQ(started().size(), 1u);
  }
  EXPECT_THAT(warnings_, testing::IsEmpty());
}

TEST_F(OneWorker, ThatHearsNothingIsEndedByAThirdCtrlCOrAfterAMinuteAndAHalf) {
  int times = 0;
  beside_ = [&] {
    ++times;
    ::raise(SIGINT);
  };
  EXPECT_EQ(run_told("deaf\n"), ExitCode::run_again);
  EXPECT_EQ(times, 3);
  std::filesystem::remove(folder_ / "s.yaml.started");
  times = 0;
  beside_ = [&] {
    if (++times > 1) clock_.now += 30;
    ::raise(times == 1 ? SIGINT : SIGCHLD);
  };
  EXPECT_EQ(run_told("deaf\n"), ExitCode::run_again);
  EXPECT_EQ(times, 5);
}

TEST_F(Crews, ASecondCtrlCEndsTrialsThatDoNotSave) {
  const SweepConfig sweep = sweep_of("s", 1000, "search: {method: random}\nbudget: {trials: 2}");
  write(sweep.dir / "deaf", "");
  const auto pid_file = sweep.dir / "trials/000000/job-000000.001/pid";
  int pressed = 0;
  const auto press = [&] {
    ++pressed;
    ::raise(SIGINT);
  };
  const CrewTalk talk{.say = [&](const std::string& line) { if (line.starts_with("stopping")) press(); },
                      .draw = [&](const std::string&) { if (pressed == 0 && !read(pid_file).empty()) press(); }};
  EXPECT_EQ(run_crew(sweep, folder_ / "s.yaml", {}, talk), ExitCode::run_again);
  EXPECT_EQ(pressed, 2);
  const int trial = std::stoi(read(pid_file));
  const bool gone = ::waitpid(trial, nullptr, WNOHANG) == trial || ::kill(trial, 0) != 0;
  EXPECT_TRUE(gone) << "the trial runs on";
  if (!gone) ::kill(trial, SIGKILL), ::waitpid(trial, nullptr, 0);
  SweepFolder folder(sweep);
  folder.refresh();
  EXPECT_EQ(folder.job(0).state, Job::State::open) << "whoever comes next has not to wait for a lease";
}

}  // namespace
}  // namespace tugline::sweep

int main(int argc, char** argv) {
  int exit_code = 0;
  if (argc > 3 && argv[1] == std::string("sweep") && tugline::sweep::ends_as_told(argv[3], exit_code)) return exit_code;
  if (tugline::sweep::is_worker_or_trial(argc, argv, tugline::sweep::train, exit_code)) return exit_code;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
