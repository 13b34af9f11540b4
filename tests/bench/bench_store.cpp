// SPDX-License-Identifier: Apache-2.0
// The trial store alone: trials per second of processes that claim the next number and finish it at once, each step durable.
//   bench_store FOLDER [--quick]           prints rows for scripts/bench.sh
//   bench_store --rate FOLDER PROCESSES SECONDS   prints trials per second, and leaves the folder
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/tests/bench/row.hpp"
#include "tugline/trainers/sweep/store/trial_store.hpp"

namespace {

using namespace tugline;

constexpr int kNumProcesses[] = {8, 64};
constexpr double kGoalPerSecond = 400;

struct Trials {
  std::atomic<std::int64_t> all = 0, in_time = 0;
};

/// What one process does until the time is up.
void serve(const std::filesystem::path& folder, double end, Trials& trials) {
  sweep::TrialStore store(sweep::real_files(), folder, {.worker = sweep::make_worker_id()});
  while (Clock::steady().seconds() < end) {
    store.refresh();
    const auto claim = store.append(store.size(), R"({"optim.lr":0.0003,"model.layers":3,"data.batch":64})");
    if (!claim || !store.finish(*claim, {.final = true, .content = R"({"objectives":[0.125]})"})) continue;
    ++trials.all;
    if (Clock::steady().seconds() < end) ++trials.in_time;
  }
}

/// Trials per second, in a folder that is not there yet and stays: on ext4 without a journal a file that is made costs more for minutes after
/// many were deleted. Throws when the store has another number of trials than its processes say.
double rate(const std::filesystem::path& folder, int num_processes, double seconds) {
  void* const memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw Error("no shared memory");
  auto& trials = *new (memory) Trials;
  const double start = Clock::steady().seconds();
  for (int i = 0; i < num_processes; ++i) {
    if (::fork() != 0) continue;
    serve(folder, start + seconds, trials);
    ::_exit(0);
  }
  int status = 0;
  bool all_well = true;
  while (::wait(&status) > 0) all_well = all_well && status == 0;
  sweep::TrialStore store(sweep::real_files(), folder, {.worker = "reader"});
  store.refresh();
  if (!all_well || store.size() != trials.all) {
    throw Error(fmt::format("{} trials in the store, {} were finished", store.size(), trials.all.load()));
  }
  return static_cast<double>(trials.in_time) / seconds;
}

void print_rate(const std::string& what, std::vector<double> rates, const char* peer, double goal, const char* unit) {
  std::cout << boost::json::serialize(boost::json::object{{"bench", "store"}, {"case", what}, {"value", percentile(rates, 0.5)},
      {"p10", percentile(rates, 0.1)}, {"p90", percentile(rates, 0.9)}, {"unit", unit}, {"better", "higher"},
      {"peer", peer}, {"goal", goal}})
            << std::endl;
}

void rows(const std::filesystem::path& folder, bool quick) {
  std::filesystem::remove_all(folder);
  std::vector<double> few, many, ratios;
  for (int round = 0; round < (quick ? 3 : 7); ++round) {
    few.push_back(rate(folder / fmt::format("{}-few", round), kNumProcesses[0], quick ? 2 : 4));
    many.push_back(rate(folder / fmt::format("{}-many", round), kNumProcesses[1], quick ? 2 : 4));
    ratios.push_back(many.back() / few.back());
  }
  std::filesystem::remove_all(folder);
  print_rate("durable trials per second, 8 processes", few, "absolute", kGoalPerSecond, "/s");
  print_rate("durable trials per second, 64 processes", many, "absolute", kGoalPerSecond, "/s");
  print_rate("the same, 64 processes over 8", ratios, "8 processes", 1, "x");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::vector<std::string> words(argv + 1, argv + argc);
    if (words.size() == 4 && words[0] == "--rate") {
      std::cout << rate(words[1], std::stoi(words[2]), std::stod(words[3])) << std::endl;
      return 0;
    }
    const bool quick = !words.empty() && (words.front() == "--quick" || words.back() == "--quick");
    const auto at = std::find_if(words.begin(), words.end(), [](const std::string& word) { return !word.starts_with("--"); });
    if (at == words.end()) throw UsageError("usage: bench_store FOLDER [--quick]");
    rows(std::filesystem::path(*at) / "bench-store", quick);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "bench_store: " << error.what() << std::endl;
    return 1;
  }
}
