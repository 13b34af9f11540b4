// SPDX-License-Identifier: Apache-2.0
// Successive halving against random search on the learning curves that scripts/bench/curve_tables.py wrote.
//   bench_halving CURVES [SEEDS] [WORKERS]
//     prints a line per task and seed: {"task", "seed", "target", "full_epochs", "epochs", "reached", "repeated"}
// `target` is the least loss at the last epoch among 100 whole trials of random points, which take `full_epochs` epochs. A sweep of other
// random points under the rule asha (min 1, eta 3) then runs until one of its trials has come to the last epoch with that loss or less.
// `epochs` are those of all jobs that it had begun by then, `repeated` those of them that a trial had been trained for before.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/core/random.hpp"
#include "tugline/trainers/sweep/planner.hpp"

namespace tugline::sweep {
namespace {

constexpr std::int64_t kEpochs = 81, kRandomTrials = 100, kMostTrials = 1000;

/// LEVELS of curve_tables.py: what the values are does not matter to a random search.
constexpr const char* kSpace = "space: {batch_size: {ordinal: [16, 32, 64, 128]}, units: {ordinal: [8, 16, 32, 64]}, "
                               "rate: {ordinal: [1, 2, 3, 4, 5, 6, 7, 8]}, momentum: {ordinal: [0, 0.5, 0.9]}, "
                               "decay: {ordinal: [0, 1, 2, 3]}}\n";

SweepConfig sweep_of(std::uint64_t seed, std::int64_t trials, const std::string& stop) {
  return parse_sweep(fmt::format("sweep: {{name: curves, seed: {}}}\nobjectives: [{{metric: loss, goal: min}}]\n{}"
                                 "search: {{method: random}}\nbudget: {{trials: {}}}\nstop: {{{}}}\n", seed, kSpace, trials, stop),
                     "halving.yaml");
}

class Curves {
 public:
  Curves(const std::filesystem::path& path, const Space& space) : space_(space) {
    std::size_t count = static_cast<std::size_t>(kEpochs);
    for (const Dimension& dimension : space.dimensions()) count *= static_cast<std::size_t>(dimension.levels());
    losses_.resize(count);
    std::ifstream file(path, std::ios::binary);
    const auto bytes = static_cast<std::streamsize>(count * sizeof(double));
    if (!file.read(reinterpret_cast<char*>(losses_.data()), bytes) || file.peek() != std::ifstream::traits_type::eof()) {
      throw IoError("'" + path.string() + "' does not hold " + std::to_string(count) + " values; make it again by curve_tables.py");
    }
  }

  double loss(const Point& point, std::int64_t epoch) const {
    std::size_t row = 0;
    for (std::size_t d = 0; d < point.size(); ++d) {
      row = row * static_cast<std::size_t>(space_.dimensions()[d].levels()) + static_cast<std::size_t>(point[d]);
    }
    return losses_[row * static_cast<std::size_t>(kEpochs) + static_cast<std::size_t>(epoch - 1)];
  }

 private:
  const Space& space_;
  std::vector<double> losses_;
};

/// Asynchronous workers that train what the planner says. A job goes on from where the last ended job of its trial stopped.
class Simulation {
 public:
  Simulation(const SweepConfig& sweep, const Curves& curves) : sweep_(sweep), curves_(curves), planner_(sweep) {}

  /// Until a whole trial's loss is `target` or less, or nothing is left to do.
  void work(std::size_t workers, double target) {
    while (best_ > target) {
      while (ends_.size() < workers && start()) {}
      if (ends_.empty()) return;
      const auto next = std::min_element(ends_.begin(), ends_.end());
      now_ = next->first;
      finish(jobs_[next->second]);
      ends_.erase(next);
    }
  }

  double best() const { return best_; }           ///< of whole trials, at their last epoch
  std::int64_t epochs() const { return epochs_; }
  std::int64_t repeated() const {
    std::int64_t once = 0;
    for (const auto& [trial, until] : begun_) once += until;
    return epochs_ - once;
  }

 private:
  bool start() {
    const auto next = planner_.next(jobs_);
    const auto* const decision = std::get_if<Decision>(&next);
    if (decision == nullptr) return false;
    const std::int64_t until = until_of(*decision), epochs = until - done_[decision->trial];
    const double pace = 0.5 + Random(sweep_.seed, Purpose::synthetic, static_cast<std::uint64_t>(decision->trial)).uniform();
    epochs_ += epochs;
    begun_[decision->trial] = std::max(begun_[decision->trial], until);
    ends_.emplace_back(now_ + pace * static_cast<double>(epochs), jobs_.size());
    jobs_.push_back({*decision, {}, false});
    return true;
  }

  void finish(JobRecord& job) {
    const std::int64_t until = until_of(job.decision);
    const double loss = curves_.loss(job.decision.point, until);
    done_[job.decision.trial] = until;
    if (until == kEpochs) best_ = std::min(best_, loss);
    Outcome outcome;
    outcome.epochs = static_cast<double>(until);
    outcome.metrics["loss"] = loss;
    job.ends.push_back(std::move(outcome));
    job.ended = true;
  }

  static std::int64_t until_of(const Decision& decision) { return decision.until == 0 ? kEpochs : decision.until; }

  const SweepConfig& sweep_;
  const Curves& curves_;
  Planner planner_;
  std::vector<JobRecord> jobs_;
  std::vector<std::pair<double, std::size_t>> ends_;   // time, job
  std::map<std::int64_t, std::int64_t> begun_, done_;  // epochs of each trial
  double now_ = 0, best_ = std::numeric_limits<double>::infinity();
  std::int64_t epochs_ = 0;
};

void compare(const std::filesystem::path& path, std::uint64_t seed, std::size_t workers) {
  const SweepConfig random = sweep_of(2 * seed, kRandomTrials, "rule: none");
  const SweepConfig halving = sweep_of(2 * seed + 1, kMostTrials, fmt::format("rule: asha, min: 1, max: {}, eta: 3", kEpochs));
  const Curves curves(path, random.space);
  Simulation whole(random, curves), halved(halving, curves);
  whole.work(workers, -std::numeric_limits<double>::infinity());
  halved.work(workers, whole.best());
  std::cout << boost::json::serialize(boost::json::object{{"task", path.stem().string()}, {"seed", seed}, {"target", whole.best()},
                                                          {"full_epochs", whole.epochs()}, {"epochs", halved.epochs()},
                                                          {"reached", halved.best() <= whole.best()}, {"repeated", halved.repeated()}})
            << std::endl;
}

}  // namespace
}  // namespace tugline::sweep

int main(int argc, char** argv) {
  try {
    if (argc < 2) throw tugline::UsageError("usage: bench_halving CURVES [SEEDS] [WORKERS]");
    const std::uint64_t seeds = argc > 2 ? std::stoull(argv[2]) : 30, workers = argc > 3 ? std::stoull(argv[3]) : 4;
    for (std::uint64_t seed = 0; seed < seeds; ++seed) tugline::sweep::compare(argv[1], seed, workers);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "bench_halving: " << error.what() << "\n";
    return 1;
  }
}
