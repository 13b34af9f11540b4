// SPDX-License-Identifier: Apache-2.0
// How busy many workers are kept: trials are processes that sleep for log-normal times (sigma 1, median 1 s), so that two cores are enough
// for sixteen.
//   bench_sweep FOLDER [TRIALS] [WORKERS]     prints a row for scripts/bench.sh
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <thread>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/random.hpp"
#include "tugline/tests/support/pretend_training.hpp"
#include "tugline/trainers/sweep/crew.hpp"

namespace tugline::sweep {
namespace {

constexpr double kGoal = 0.02;

/// Sleeps, and says in one line of a common file when it began and ended.
int train(const PretendTraining& training) {
  const double begin = Clock::steady().seconds();
  Random random(static_cast<std::uint64_t>(training.seed), Purpose::synthetic);
  std::this_thread::sleep_for(std::chrono::duration<double>(std::exp(random.normal())));
  const std::string line = fmt::format("{} {}\n", begin, Clock::steady().seconds());
  const int file = ::open((training.folder.parent_path().parent_path().parent_path() / "times").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  const bool written = ::write(file, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  ::close(file);
  return written ? training.finish(1.0 / static_cast<double>(training.seed + 1)) : 1;
}

/// The share of the workers' time in which they ran no trial, from when all had one until the last one began.
double idle_share(const std::filesystem::path& times, std::size_t workers) {
  std::vector<std::pair<double, double>> trials;
  std::ifstream in(times);
  for (double begin, end; in >> begin >> end;) trials.emplace_back(begin, end);
  std::sort(trials.begin(), trials.end());
  if (trials.size() <= workers) throw Error("more trials than workers are needed");
  const double from = trials[workers - 1].first, until = trials.back().first;
  double busy = 0;
  for (const auto& [begin, end] : trials) busy += std::max(0.0, std::min(end, until) - std::max(begin, from));
  return 1 - busy / ((until - from) * static_cast<double>(workers));
}

int main_with(const std::vector<std::string>& words) {
  if (words.empty()) throw UsageError("usage: bench_sweep FOLDER [TRIALS] [WORKERS]");
  const std::int64_t trials = words.size() > 1 ? std::stoll(words[1]) : 400;
  const int workers = words.size() > 2 ? std::stoi(words[2]) : 16;
  const auto folder = std::filesystem::absolute(words[0]) / "bench-sweep";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "base.yaml") << "seed: 0\n";
  std::ofstream(folder / "s.yaml") << fmt::format("sweep: {{name: s, dir: {}, base: base.yaml}}\nspace: {{seed: {{int: [0, 1000000]}}}}\n"
                                                  "search: {{method: tpe}}\nbudget: {{trials: {}}}\n", (folder / "s").string(), trials);
  const SweepConfig sweep = load_sweep(folder / "s.yaml");
  const ExitCode code = run_crew(sweep, folder / "s.yaml", {.workers = workers, .of = workers}, {.say = [](const std::string&) {}, .draw = {}});
  if (code != ExitCode::done) throw Error("the sweep did not end");
  const double idle = idle_share(folder / "s/times", static_cast<std::size_t>(workers));
  std::filesystem::remove_all(folder);
  std::cout << boost::json::serialize(boost::json::object{{"bench", "sweep"}, {"case", fmt::format("{} workers, {} trials of 1.6 s: idle", workers, trials)},
      {"value", 100 * idle}, {"p10", 100 * idle}, {"p90", 100 * idle}, {"unit", "%"}, {"better", "lower"}, {"peer", "their time"}, {"goal", 100 * kGoal}}) << std::endl;
  return 0;
}

}  // namespace
}  // namespace tugline::sweep

int main(int argc, char** argv) {
  int exit_code = 0;
  try {
    if (tugline::sweep::is_worker_or_trial(argc, argv, tugline::sweep::train, exit_code)) return exit_code;
    return tugline::sweep::main_with({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << "bench_sweep: " << error.what() << "\n";
    return 1;
  }
}
