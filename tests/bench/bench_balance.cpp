// SPDX-License-Identifier: Apache-2.0
// Load balancing with slow ranks: mpirun -n N bench_balance MODE [--quick] [--speeds 1,0.5,...]
//   work      rank r makes its samples' forward and backward 1 / speed times
//   quota     rank r runs under a CPU quota of `speed` cores, with a period of 2 ms (control groups version 1 or 2, as root)
//   change    rank 1 goes from full to half speed and back: what is lost on the way, in steps
//   equal     all at one speed: do the shares stay, and what does the balancer itself cost
// work and quota print samples/s of the team, with adaptive and with equal shares and asynchronously, over the sum of what the ranks do
// alone, all at once in the same run, each with the samples that it has in the team.
#include <torch/torch.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <numeric>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/config/load.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/data/loader.hpp"
#include "tugline/parallel/async/async_strategy.hpp"
#include "tugline/parallel/balance/adaptive_shares.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/bench/row.hpp"
#include "tugline/trainers/learner.hpp"

namespace {

using namespace tugline;
namespace fs = std::filesystem;

constexpr std::int64_t kBatchPerRank = 128;
constexpr std::int64_t kLargeBatchPerRank = 256;   // steps that are long against the periods of a quota, whose throttling is no speed

/// This process under a quota, and out of it again.
class Quota {
 public:
  explicit Quota(double cores) {
    const double period = std::max(2000.0, 1000 / cores);   // the kernel gives no less than 1000 us
    const bool second = fs::exists("/sys/fs/cgroup/cgroup.controllers");
    root_ = second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
    group_ = root_ / fmt::format("tugline-bench-{}", ::getpid());
    fs::create_directory(group_);
    if (second) {
      write(group_ / "cpu.max", fmt::format("{:.0f} {:.0f}", cores * period, period));
    } else {
      write(group_ / "cpu.cfs_period_us", fmt::format("{:.0f}", period));
      write(group_ / "cpu.cfs_quota_us", fmt::format("{:.0f}", cores * period));
    }
    write(group_ / "cgroup.procs", fmt::format("{}", ::getpid()));
  }
  ~Quota() {
    std::ofstream(root_ / "cgroup.procs") << ::getpid() << std::flush;
    std::error_code ignored;
    fs::remove(group_, ignored);
  }
  Quota(const Quota&) = delete;
  Quota& operator=(const Quota&) = delete;

 private:
  static void write(const fs::path& file, const std::string& text) {
    std::ofstream out(file);
    if (!(out << text << std::flush)) throw Error(fmt::format("cannot write '{}' to {}: quotas need root and the cpu controller", text, file.string()));
  }
  fs::path root_, group_;
};

/// A rule that is timed.
class Timed final : public ShareRule {
 public:
  explicit Timed(std::shared_ptr<ShareRule> rule) : rule_(std::move(rule)) {}
  std::vector<std::int64_t> shares(const Piece& global) const override {
    const double start = thread_cpu_seconds();
    auto result = rule_->shares(global);
    cpu_seconds += thread_cpu_seconds() - start;
    return result;
  }
  std::optional<ShareChange> observe(const Piece& global, std::span<const RankStep> ranks) override {
    const double start = thread_cpu_seconds();
    auto result = rule_->observe(global, ranks);
    cpu_seconds += thread_cpu_seconds() - start;
    return result;
  }
  mutable double cpu_seconds = 0;

 private:
  std::shared_ptr<ShareRule> rule_;
};

enum class Kind { sync, async };

RunConfig config_of(std::int64_t batch, Kind kind) {
  return parse_config(fmt::format("data: {{name: synthetic, samples: 32768, features: 784, batch: {}, drop_last: true, normalise: false, threads: 0}}\n"
                                  "model: {{name: mlp, hidden: [1024, 1024]}}\noptim: {{lr: 0.01, momentum: 0.9}}\nparallel: {{strategy: {}}}\n", batch,
                                  kind == Kind::async ? "async" : "sync"), "balance");
}

/// `busy`: seconds per step and rank. See Loop::evenness().
double evenness_of(const std::vector<std::vector<double>>& busy) {
  std::vector<double> means(busy.front().size());
  for (const auto& step : busy) {
    for (std::size_t r = 0; r < means.size(); ++r) means[r] += step[r] / static_cast<double>(busy.size());
  }
  double waited_for = 0;
  for (const auto& step : busy) {
    double longest = 0;
    for (std::size_t r = 0; r < means.size(); ++r) longest = std::max(longest, step[r] / means[r]);
    waited_for += longest;
  }
  return static_cast<double>(busy.size()) / waited_for;
}

/// A trainer's step without its console and files, on ranks some of which are slow by repeated work.
class Loop {
 public:
  Loop(World& world, std::int64_t batch, std::shared_ptr<ShareRule> rule, const double& speed, Kind kind = Kind::sync)
      : config_(config_of(batch, kind)), data_(open_data(config_.data, 0).train),
        learner_(config_, ModelRegistry(), data_->spec(), world, nullptr, ParameterCopies::per_host),
        loader_(data_, std::make_shared<SampleOrder>(data_->size(), 0, false), nullptr, 0, LoaderOptions{.threads = 0}),
        double_(ModelRegistry().build(config_.model, data_->spec(), 1)), inputs_(torch::randn({4 * batch, 784})),
        speed_(speed),
        strategy_(make(world, batch, std::move(rule), kind)) {}

  StepFacts step(StopReason stop = StopReason::none) {
    const Piece piece = *strategy_->next_piece();
    samples_ += piece.size();
    strategy_->begin_step(learner_.backwards(piece), learner_.nominal_weight(piece));
    const double start = Clock::steady().seconds(), cpu = thread_cpu_seconds();
    repeat(std::llround((1 / speed_ - 1) * static_cast<double>(piece.size())));
    const double repeated = Clock::steady().seconds() - start, repeated_cpu = thread_cpu_seconds() - cpu;
    StepReport report = learner_.compute_gradients(loader_, piece);
    report.compute_seconds += repeated;
    report.cpu_seconds += repeated_cpu;
    report.stop = stop;
    return strategy_->finish_step(report);
  }
  /// Steps until `seconds` have passed on this rank; samples/s of the global batch.
  double samples_per_second(double seconds) {
    std::int64_t samples = 0;
    const double start = Clock::steady().seconds();
    for (double now = start; now < start + seconds; now = Clock::steady().seconds()) {
      step();
      samples += config_.data.batch;
    }
    return static_cast<double>(samples) / (Clock::steady().seconds() - start);
  }
  /// The same for the samples that this rank itself computes on, where each goes its own way; then all meet.
  double own_samples_per_second(double seconds) {
    const std::int64_t before = samples_;
    const double start = Clock::steady().seconds();
    StepFacts facts;
    while (Clock::steady().seconds() < start + seconds && facts.stop == StopReason::none) facts = step();
    const double rate = static_cast<double>(samples_ - before) / (Clock::steady().seconds() - start);
    while (facts.stop == StopReason::none) facts = step(StopReason::limit);
    return rate;
  }
  double seconds_per_step(int steps) {
    std::vector<std::vector<double>> busy;   // per step and rank
    const double start = Clock::steady().seconds();
    for (int i = 0; i < steps; ++i) {
      const StepFacts facts = step();
      busy.emplace_back();
      for (const RankStep& rank : facts.steps.front().ranks) busy.back().push_back(rank.busy_seconds());
    }
    const double mean = (Clock::steady().seconds() - start) / steps;
    evenness_ = evenness_of(busy);
    return mean;
  }
  /// Of the last such steps, had all ranks been equally long at them on average: that time over the time of the slowest in each step. Below 1
  /// where now one rank is late and now another, which no shares mend.
  double evenness() const { return evenness_; }

 private:
  std::unique_ptr<Strategy> make(World& world, std::int64_t batch, std::shared_ptr<ShareRule> rule, Kind kind) {
    const Schedule schedule(config_.optim, {1 << 30, 1, batch});
    const StepPlan plan{data_->size(), batch, true, 1 << 30};
    if (kind == Kind::async) {
      AsyncOptions options;
      options.node = learner_.node();
      return std::make_unique<AsyncStrategy>(world.communicator(), world.control(), learner_.parameters(), learner_.optimizer(), learner_.common(),
                                             schedule, plan, options);
    }
    SyncOptions options;
    options.shares = std::move(rule);
    options.node = learner_.node();
    options.exchange = learner_.exchange();
    return std::make_unique<SyncStrategy>(world.communicator(), world.control(), learner_.parameters(), learner_.optimizer(), schedule, plan, options);
  }
  void repeat(std::int64_t samples) {
    if (samples == 0) return;
    double_->forward(inputs_.narrow(0, 0, samples)).sum().backward();
  }

  RunConfig config_;
  std::shared_ptr<const Dataset> data_;
  Learner learner_;
  Loader loader_;
  std::shared_ptr<Model> double_;
  at::Tensor inputs_;
  const double& speed_;
  double evenness_ = 1;
  std::int64_t samples_ = 0;
  std::unique_ptr<Strategy> strategy_;
};

std::shared_ptr<AdaptiveShares> adaptive(World& world, std::int64_t batch) {
  return std::make_shared<AdaptiveShares>(world.size(), AdaptiveOptions{.global_batch = batch});
}

void run_speeds(World& world, const std::string& what, double speed, const std::string& speeds, std::int64_t batch_per_rank, int rounds) {
  const std::int64_t batch = batch_per_rank * world.size();
  Loop balanced(world, batch, adaptive(world, batch), speed), equal(world, batch, nullptr, speed), async(world, batch, nullptr, speed, Kind::async);
  StepFacts facts;
  for (int i = 0; i < 60; ++i) facts = balanced.step();
  const std::int64_t share = facts.steps.front().ranks[static_cast<std::size_t>(world.rank())].samples;
  World solo{solo_communicator()};
  Loop alone(solo, share, nullptr, speed);
  // Cores drift against each other for seconds: a short block alone, a short block together, and each ratio is to what ranks do before and after it.
  const double step = world.control().all_reduce(balanced.seconds_per_step(10), ReduceOp::max), block = std::max(0.5, 6 * step);
  const auto own = [&] {
    world.control().barrier();
    alone.samples_per_second(block / 8);
    return world.control().all_reduce(alone.samples_per_second(block));
  };
  const auto team = [&](Loop& loop) {
    loop.seconds_per_step(2);
    return static_cast<double>(batch) / world.control().all_reduce(loop.seconds_per_step(static_cast<int>(block / step)), ReduceOp::max);
  };
  const auto apart = [&](Loop& loop) {
    world.control().barrier();
    loop.own_samples_per_second(block / 8);
    return world.control().all_reduce(loop.own_samples_per_second(block));
  };
  std::vector<double> even;
  const auto ratios_of = [&](const auto& rate) {
    std::vector<double> ratios;
    double before = own();
    for (int i = 0; i < rounds; ++i) {
      const double together = rate(), after = own();
      ratios.push_back(together / ((before + after) / 2));
      before = after;
    }
    return ratios;
  };
  const auto ratios = ratios_of([&] {
    const double rate = team(balanced);
    even.push_back(balanced.evenness());
    return rate;
  });
  const auto equal_ratios = ratios_of([&] { return team(equal); });
  const auto async_ratios = ratios_of([&] { return apart(async); });
  facts = balanced.step();
  if (world.rank() != 0) return;
  std::vector<std::int64_t> shares;
  for (const RankStep& rank : facts.steps.front().ranks) shares.push_back(rank.samples);
  const double goal = world.size() == 2 ? 0.97 : speeds.find("0.35") == std::string::npos ? 0.95 : 0.94;
  print_row("balance", fmt::format("samples/s, {} {}, shares {}", what, speeds, fmt::join(shares, " ")), ratios, "sum of the ranks' own speeds", goal, "higher");
  print_row("balance", "  what uneven steps leave of it, whatever the shares", even, "time per rank / of the slowest in each step", 0, "higher");
  print_row("balance", fmt::format("samples/s, {} {}, equal shares", what, speeds), equal_ratios, "sum of the ranks' own speeds", 0, "higher");
  print_row("async", fmt::format("samples/s, {} {}", what, speeds), async_ratios, "sum of the ranks' own speeds", world.size() == 2 ? 0.97 : 0, "higher");
}

void run_change(World& world, int rounds) {
  const std::int64_t batch = kBatchPerRank * world.size();
  double speed = 1;
  Loop loop(world, batch, adaptive(world, batch), speed);
  loop.seconds_per_step(60);
  constexpr int kSteps = 60, kSettled = 30;
  std::vector<double> lost[2];
  for (int i = 0; i < 2 * rounds; ++i) {
    if (world.rank() == 1) speed = i % 2 == 0 ? 0.5 : 1;
    std::vector<double> seconds;
    for (int k = 0; k < kSteps; ++k) seconds.push_back(loop.seconds_per_step(1));
    const double ideal = percentile({seconds.begin() + kSettled, seconds.end()}, 0.5);
    lost[i % 2].push_back(std::accumulate(seconds.begin(), seconds.begin() + kSettled, 0.0) / ideal - kSettled);
  }
  if (world.rank() != 0) return;
  print_row("balance", "steps lost when rank 1 slows down to half", lost[0], "steps as they are later", 3);
  print_row("balance", "steps lost when rank 1 is fast again", lost[1], "steps as they are later", 3);
}

void run_equal(World& world, int rounds) {
  const std::int64_t batch = kBatchPerRank * world.size();
  const double speed = 1;
  const auto rule = std::make_shared<Timed>(adaptive(world, batch));
  Loop loop(world, batch, rule, speed);
  loop.seconds_per_step(10);
  std::vector<double> jitter, cost;
  for (int i = 0; i < rounds; ++i) {
    rule->cpu_seconds = 0;
    const double cpu = thread_cpu_seconds();
    std::int64_t most = 0;
    for (int k = 0; k < 100; ++k) {
      const StepFacts facts = loop.step();
      for (const RankStep& rank : facts.steps.front().ranks) most = std::max(most, std::abs(rank.samples - kBatchPerRank));
    }
    jitter.push_back(static_cast<double>(most) / kBatchPerRank);
    cost.push_back(rule->cpu_seconds / (thread_cpu_seconds() - cpu));
  }
  if (world.rank() != 0) return;
  print_row("balance", "largest move of a share, equal ranks", jitter, "the share", 0.01);
  print_row("balance", "CPU time of the balancer, equal ranks", cost, "CPU time of a step", 0.002);
}

double speed_of(const std::string& speeds, int rank) {
  std::istringstream in(speeds);
  std::string word;
  for (int i = 0; i <= rank; ++i) {
    if (!std::getline(in, word, ',')) throw Error("--speeds has one number per rank");
  }
  return std::stod(word);
}

}  // namespace

int main(int argc, char** argv) {
  tugline::World world{argc, argv};
  at::set_num_threads(1);
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool quick = std::erase(arguments, "--quick") > 0;
  const int rounds = quick ? 3 : 10, turns = 3 * rounds;
  const std::string mode = arguments.empty() ? "" : arguments[0], speeds = arguments.size() > 2 ? arguments[2] : "1,0.5";
  try {
    if (mode == "work") {
      run_speeds(world, "repeated work", speed_of(speeds, world.rank()), speeds, kBatchPerRank, turns);
    } else if (mode == "quota") {
      const Quota quota(speed_of(speeds, world.rank()));
      run_speeds(world, "quotas", 1, speeds, kLargeBatchPerRank, turns);
    } else if (mode == "change") {
      run_change(world, rounds);
    } else if (mode == "equal") {
      run_equal(world, rounds);
    } else {
      throw tugline::Error("usage: bench_balance work|quota|change|equal [--speeds 1,0.5,...] [--quick]");
    }
  } catch (const std::exception& error) {
    std::cerr << "bench_balance: " << error.what() << std::endl;
    world.communicator().abort(1);
  }
}
