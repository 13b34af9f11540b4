// SPDX-License-Identifier: Apache-2.0
// One training step of Tugline against the same model in plain LibTorch loops, alternated in one process:
//   mpirun -n 2 bench_step [--quick] [CASE...]
//   mpirun -n 2 bench_step --ours [--short] [--bfloat16] mlp-64
//                                              prints milliseconds per step of Tugline's loop alone, for scripts/bench/ddp.sh and hosts.sh
//   mpirun -n 2 bench_step --device cuda [--graphs] [--memory] mlp-64
//                                              the same on GPUs, a rank each (train.cuda_graphs); or a JSON object per rank: bytes that the arena, the optimizer
//                                              and the model's buffers need there, and bytes that are allocated at rest and at most
//   mpirun -n 2 bench_step --shards mlp-256    what parallel.shards: 4 costs
//   mpirun -n 2 bench_step --overlap mlp-256   a step against the longer of its computation and its communication, for a slow link
// The plain loops run on every rank at once (as many copies as ranks, no communication): one with torch::optim as a user would write
// it, one with ATen's fused kernel on flat buffers. Prints a JSON object per case and peer on rank 0. All sides are checked: equal
// losses on one rank, equal parameters on several.
#include <ATen/DeviceAccelerator.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <numeric>

#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/config/load.hpp"
#include "tugline/core/data/loader.hpp"
#include "tugline/core/freed_memory.hpp"
#include "tugline/core/models/module_tensors.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/bench/row.hpp"
#include "tugline/trainers/learner.hpp"

namespace {

using namespace tugline;

struct Case {
  std::string name;
  std::string model;        // YAML
  std::string input;        // "features", "image" or "tokens"
  std::int64_t batch_per_rank;
  std::string optimizer;    // "sgd" with momentum, or "adamw"
  std::string title() const { return fmt::format("{}-{}{}", name, batch_per_rank, optimizer == "sgd" ? "" : "-" + optimizer); }
};

constexpr std::int64_t kSequence = 64, kVocabulary = 65;

/// Random inputs of a fixed shape with labels that depend on them, all in memory.
class BenchData final : public Dataset {
 public:
  BenchData(const std::string& kind, std::int64_t samples) : samples_(samples) {
    torch::manual_seed(7);
    if (kind == "tokens") {
      spec_.input_shape = spec_.target_shape = {kSequence};
      spec_.input_dtype = DType::int64;
      spec_.num_classes = kVocabulary;
      inputs_ = torch::randint(kVocabulary, {samples, kSequence}, torch::kLong);
      targets_ = inputs_.roll(-1, 1).contiguous();
      return;
    }
    spec_.input_shape = kind == "image" ? std::vector<std::int64_t>{1, 28, 28} : std::vector<std::int64_t>{784};
    spec_.num_classes = 10;
    inputs_ = torch::randn({samples, 784});
    targets_ = inputs_.slice(1, 0, 10).argmax(1).contiguous();
  }
  const SampleSpec& spec() const override { return spec_; }
  std::int64_t size() const override { return samples_; }
  void read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const override {
    std::memcpy(input.data(), static_cast<const std::byte*>(inputs_.data_ptr()) + static_cast<std::size_t>(index) * input.size(), input.size());
    std::memcpy(target.data(), static_cast<const std::byte*>(targets_.data_ptr()) + static_cast<std::size_t>(index) * target.size(),
                target.size());
  }
  std::uint64_t fingerprint() const override { return 0; }
  bool cheap() const override { return true; }
  at::Tensor inputs() const { return inputs_; }
  at::Tensor targets() const { return targets_; }

 private:
  SampleSpec spec_;
  std::int64_t samples_;
  at::Tensor inputs_, targets_;
};

/// A trainer's step without its console and files.
class TuglineLoop {
 public:
  TuglineLoop(World& world, const RunConfig& config, std::shared_ptr<BenchData> data)
      : learner_(config, ModelRegistry(), data->spec(), world, nullptr, ParameterCopies::per_host),
        order_(std::make_shared<SampleOrder>(data->size(), 0, false)),
        loader_(data, order_, nullptr, 0, LoaderOptions{.pinned = !learner_.device().is_cpu()}),
        strategy_(learner_.gradients(), world.control(), learner_.parameters(), learner_.optimizer(),
                  Schedule(config.optim, {1 << 30, 1, config.data.batch}), {data->size(), config.data.batch, true, 1 << 30},
                  {.node = learner_.node(), .exchange = learner_.exchange(), .shards = learner_.shards()}) {}
  double step() {
    const Piece piece = *strategy_.next_piece();
    strategy_.begin_step(learner_.backwards(piece), learner_.nominal_weight(piece));
    facts_ = strategy_.finish_step(learner_.compute_gradients(loader_, piece));
    return facts_.steps.front().loss;
  }
  const StepFacts& facts() const { return facts_; }   ///< of the last step
  /// The communication of a step and nothing else: no samples, so that no parameter changes.
  void exchange() {
    strategy_.begin_step(0, 1);
    strategy_.finish_step({});
  }
  Learner& learner() { return learner_; }

 private:
  Learner learner_;
  std::shared_ptr<SampleOrder> order_;
  Loader loader_;
  SyncStrategy strategy_;
  StepFacts facts_;
};

/// What both plain loops do before the optimizer's step: the mean loss of the next batch.
class PlainLoop {
 public:
  PlainLoop(const RunConfig& config, const BenchData& data, std::int64_t batch)
      : model_(ModelRegistry().build(config.model, data.spec(), config.seed)), inputs_(data.inputs()), targets_(data.targets()),
        batch_(batch), shape_(data.spec().input_shape) {
    shape_.insert(shape_.begin(), batch);
  }

 protected:
  at::Tensor next_loss() {
    if ((next_ + 1) * batch_ > inputs_.size(0)) next_ = 0;
    const at::Tensor x = inputs_.narrow(0, next_ * batch_, batch_).view(shape_);
    const at::Tensor y = targets_.narrow(0, next_++ * batch_, batch_).flatten();
    const at::Tensor output = model_->forward(x);
    return torch::cross_entropy_loss(output.view({y.numel(), -1}), y);
  }
  std::shared_ptr<Model> model_;

 private:
  at::Tensor inputs_, targets_;
  std::int64_t batch_, next_ = 0;
  std::vector<std::int64_t> shape_;
};

/// As a user would write it.
class TorchLoop : PlainLoop {
 public:
  static constexpr const char* kName = "plain LibTorch loop, torch::optim, as many copies at once";
  TorchLoop(const RunConfig& config, const BenchData& data, std::int64_t batch) : PlainLoop(config, data, batch) {
    const OptimConfig& optim = config.optim;
    if (optim.name == "sgd") {
      optimizer_ = std::make_unique<torch::optim::SGD>(model_->parameters(), torch::optim::SGDOptions(optim.lr).momentum(optim.momentum));
    } else {
      optimizer_ = std::make_unique<torch::optim::AdamW>(model_->parameters(),
                                                         torch::optim::AdamWOptions(optim.lr).weight_decay(optim.weight_decay));
    }
  }
  double step() {
    optimizer_->zero_grad();
    const at::Tensor loss = next_loss();
    loss.backward();
    optimizer_->step();
    return loss.item<double>();
  }

 private:
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
};

/// As fast as ATen's kernels make it: gradients accumulate into one flat buffer, which one fused call steps.
class FlatLoop : PlainLoop {
 public:
  static constexpr const char* kName = "plain LibTorch loop, fused kernel on flat buffers, as many copies at once";
  FlatLoop(const RunConfig& config, const BenchData& data, std::int64_t batch)
      : PlainLoop(config, data, batch), arena_(named_parameters_of(*model_), {}), optimizer_(make_optimizer(config.optim, arena_)),
        lr_(config.optim.lr) {}
  double step() {
    arena_.zero_gradients();
    const at::Tensor loss = next_loss();
    loss.backward();
    optimizer_->step({0, 0, arena_.flats()[0].gradients.numel()}, 0, {.lr = lr_, .number = static_cast<double>(++steps_)});
    return loss.item<double>();
  }

 private:
  Arena arena_;
  std::unique_ptr<Optimizer> optimizer_;
  double lr_;
  std::int64_t steps_ = 0;
};

template <typename Loop>
double seconds_of(Loop& loop, int steps) {
  const double start = Clock::steady().seconds();
  for (int i = 0; i < steps; ++i) loop.step();
  return (Clock::steady().seconds() - start) / steps;
}

/// One rank: all loops see the same batches, so their losses must agree. Several: replicas must be equal bit for bit.
void check(World& world, TuglineLoop& ours, TorchLoop& torch_loop, FlatLoop& flat_loop) {
  for (int i = 0; i < 5; ++i) {
    const double a = ours.step(), b = torch_loop.step(), c = flat_loop.step();
    const double allowed = 1e-4 * std::max(1.0, std::abs(b));
    if (world.size() == 1 && (std::abs(a - b) > allowed || std::abs(c - b) > allowed)) {
      throw Error(fmt::format("step {}: loss {} against {} with torch::optim and {} on flat buffers", i, a, b, c));
    }
  }
  for (const auto& flat : ours.learner().parameters().flats()) {
    at::Tensor largest = flat.values.clone();
    world.control().all_reduce(largest.data_ptr(), largest.numel(), DType::float32, ReduceOp::max);
    if (!largest.equal(flat.values)) throw Error("parameters differ between ranks");
  }
}

RunConfig config_of(World& world, const Case& c, const std::string& wire, int shards, const std::string& train = "device: cpu") {
  const std::string optim = c.optimizer == "sgd" ? "{name: sgd, lr: 0.01, momentum: 0.9}" : "{name: adamw, lr: 0.001, weight_decay: 0}";
  return parse_config(fmt::format("data: {{name: synthetic, batch: {}}}\ntask: {{name: {}}}\nmodel: {}\noptim: {}\n"
                                  "parallel: {{wire: {}, shards: {}}}\ntrain: {{{}}}\n",
                                  c.batch_per_rank * world.size(), c.input == "tokens" ? "language_model" : "classification", c.model,
                                  optim, wire, shards, train), c.title());
}

std::shared_ptr<BenchData> data_for(World& world, const Case& c) {
  return std::make_shared<BenchData>(c.input, std::max<std::int64_t>(2048, 4 * c.batch_per_rank * world.size()));
}

/// Ours and its peers on one rank of one case.
struct Loops {
  RunConfig config;
  std::shared_ptr<BenchData> data;
  TuglineLoop ours;
  TorchLoop torch_loop;
  FlatLoop flat_loop;
  Loops(World& world, const Case& c, const std::string& wire = "float32", int shards = 0)
      : config(config_of(world, c, wire, shards)),
        data(data_for(world, c)),
        ours(world, config, data), torch_loop(config, *data, c.batch_per_rank), flat_loop(config, *data, c.batch_per_rank) {
    check(world, ours, torch_loop, flat_loop);
  }
};

/// The slowest rank's seconds per step, after 5 that do not count.
template <typename Loop>
double block(World& world, Loop& loop, int steps = 30) {
  world.control().barrier();
  seconds_of(loop, 5);
  return world.control().all_reduce(seconds_of(loop, steps), ReduceOp::max);
}

/// The same with what the slowest rank's 30 steps would take if they waited for one another, as synchronous ones do, at no other cost; over what
/// they took.
template <typename Loop>
double block(World& world, Loop& loop, std::vector<double>& lock_step) {
  constexpr std::size_t kSteps = 30;
  world.control().barrier();
  seconds_of(loop, 5);
  std::vector<double> mine;
  for (std::size_t i = 0; i < kSteps; ++i) mine.push_back(seconds_of(loop, 1));
  std::vector<double> slowest = mine;
  world.control().all_reduce(slowest.data(), kSteps, DType::float64, ReduceOp::max);
  const double alone = world.control().all_reduce(std::accumulate(mine.begin(), mine.end(), 0.0), ReduceOp::max);
  lock_step.push_back(std::accumulate(slowest.begin(), slowest.end(), 0.0) / alone);
  return alone / kSteps;
}

void print(World& world, const Case& c, const char* peer, double milliseconds, const std::vector<double>& ratios, double goal) {
  if (world.rank() != 0) return;
  const std::string what = fmt::format("{} per rank, {} rank{}, {:.2f} ms", c.title(), world.size(), world.size() == 1 ? "" : "s",
                                       milliseconds);
  print_row("step", what, ratios, peer, world.size() == 2 ? goal : 0);
}

void run_case(World& world, const Case& c, int blocks) {
  Loops loops(world, c);
  std::vector<double> milliseconds, against_flat, against_torch, lock_step;
  for (int i = 0; i < blocks; ++i) {
    const double ours = block(world, loops.ours);
    against_flat.push_back(ours / block(world, loops.flat_loop, lock_step));
    against_torch.push_back(ours / block(world, loops.torch_loop));
    milliseconds.push_back(1e3 * ours);
  }
  print(world, c, FlatLoop::kName, percentile(milliseconds, 0.5), against_flat, c.batch_per_rank < 256 ? 1.05 : 1.03);
  print(world, c, TorchLoop::kName, percentile(milliseconds, 0.5), against_torch, 1.0);
  if (world.size() > 1) print(world, c, "the fused loop's own steps in lock-step, over themselves: what waiting for the slower rank costs", percentile(milliseconds, 0.5), lock_step, 0);
}

void run_shards(World& world, const Case& c, int blocks) {
  Loops plain(world, c), shards(world, c, "float32", 4);
  std::vector<double> ratios, milliseconds;
  for (int i = 0; i < blocks; ++i) {
    milliseconds.push_back(1e3 * block(world, shards.ours));
    ratios.push_back(milliseconds.back() / (1e3 * block(world, plain.ours)));
  }
  if (world.rank() != 0) return;
  print_row("shards", fmt::format("{} per rank, {} ranks, 4 shards, {:.2f} ms", c.title(), world.size(), percentile(milliseconds, 0.5)), ratios,
            "the same step without parallel.shards", 0);
}

/// How much of the communication hides behind the computation, and the other way round.
void run_overlap(World& world, const Case& c, int blocks) {
  Loops loops(world, c);
  struct ExchangeLoop {
    TuglineLoop& ours;
    void step() { ours.exchange(); }
  } exchange_loop{loops.ours};
  struct WatchedLoop {
    TuglineLoop& ours;
    std::vector<double> computed{}, exposed{}, waited{};
    void step() {
      ours.step();
      computed.push_back(1e3 * ours.facts().compute_seconds);
      exposed.push_back(1e3 * ours.facts().exposed_seconds);
      waited.push_back(1e3 * ours.facts().wait_seconds);
    }
  } watched{loops.ours};
  std::vector<double> steps, computations, exchanges, ratios;
  for (int i = 0; i < blocks; ++i) {
    steps.push_back(block(world, watched));
    computations.push_back(block(world, loops.flat_loop));
    exchanges.push_back(block(world, exchange_loop));
    ratios.push_back(steps.back() / std::max(computations.back(), exchanges.back()));
  }
  if (world.rank() != 0) return;
  print_row("overlap", fmt::format("{} per rank, {} ranks, {:.1f} ms ({:.1f} computing, {:.1f} exposed, {:.1f} waiting) of {:.1f} and {:.1f}", c.title(), world.size(),
                                   1e3 * percentile(steps, 0.5), percentile(watched.computed, 0.5), percentile(watched.exposed, 0.5), percentile(watched.waited, 0.5),
                                   1e3 * percentile(computations, 0.5), 1e3 * percentile(exchanges, 0.5)),
            ratios, "the longer of computation and communication alone", 1.15);
}

/// `brief`: for links on which a step takes a second.
double median_milliseconds(World& world, TuglineLoop& loop, bool brief) {
  std::vector<double> milliseconds;
  for (int i = 0; i < (brief ? 1 : 10); ++i) milliseconds.push_back(1e3 * block(world, loop, brief ? 10 : 30));
  return percentile(milliseconds, 0.5);
}

double milliseconds_of_ours(World& world, const Case& c, bool brief, const std::string& wire) {
  Loops loops(world, c, wire);
  return median_milliseconds(world, loops.ours, brief);
}

double milliseconds_of_device(const std::string& train, World& world, const Case& c, bool brief) {
  TuglineLoop loop(world, config_of(world, c, "float32", 0, train), data_for(world, c));
  return median_milliseconds(world, loop, brief);
}

/// What the arena, the optimizer and the model's buffers take on the device.
std::int64_t expected_bytes(Learner& learner) {
  std::int64_t bytes = 0;
  const auto add = [&](const at::Tensor& flat) { bytes += flat.defined() ? static_cast<std::int64_t>(flat.nbytes()) : 0; };
  for (const Arena* arena : {&learner.parameters(), &learner.buffers()}) {
    for (const auto& flat : arena->flats()) {
      add(flat.values);
      add(flat.gradients);
    }
  }
  for (const auto& slot : learner.optimizer().slots()) {
    for (const auto& flat : slot.buffers) add(flat);
  }
  return bytes;
}

/// By LibTorch's allocator, in which all tensors lie.
void print_memory(const std::string& train, World& world, const Case& c) {
  TuglineLoop loop(world, config_of(world, c, "float32", 0, train), data_for(world, c));
  const auto allocated = [index = loop.learner().device().index()] {
    return at::accelerator::getDeviceStats(index).allocated_bytes[0];   // of all pools
  };
  const std::int64_t at_rest = allocated().current;
  seconds_of(loop, 10);
  const auto line = fmt::format(R"({{"case": "{}", "rank": {}, "expected_bytes": {}, "bytes_at_rest": {}, "peak_bytes": {}}})", c.title(),
                                world.rank(), expected_bytes(loop.learner()), at_rest, allocated().peak);
  for (const std::string& each : world.control().all_gather(line)) {
    if (world.rank() == 0) std::cout << each << std::endl;
  }
}

std::vector<Case> cases() {
  const std::string mlp = "{name: mlp, hidden: [1024, 1024]}", convnet = "{name: convnet, channels: [16, 32], norm: none}";
  const std::string transformer = "{name: transformer, layers: 4, heads: 4, width: 128}";
  return {{"mlp", mlp, "features", 64, "sgd"},   {"mlp", mlp, "features", 256, "sgd"},   {"mlp", mlp, "features", 64, "adamw"},
          {"convnet", convnet, "image", 64, "sgd"}, {"convnet", convnet, "image", 256, "sgd"},
          {"transformer", transformer, "tokens", 16, "sgd"}, {"transformer", transformer, "tokens", 16, "adamw"}};
}

}  // namespace

int main(int argc, char** argv) {
  tugline::keep_freed_memory();   // as App::run() does; for the plain loops too
  tugline::World world{argc, argv};
  at::set_num_threads(1);
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool quick = std::erase(arguments, "--quick") > 0, only_ours = std::erase(arguments, "--ours") > 0;
  const bool brief = std::erase(arguments, "--short") > 0;
  const std::string wire = std::erase(arguments, "--bfloat16") > 0 ? "bfloat16" : "float32";
  const bool shards = std::erase(arguments, "--shards") > 0;
  const bool overlap = std::erase(arguments, "--overlap") > 0;
  const bool memory = std::erase(arguments, "--memory") > 0;
  const bool graphs = std::erase(arguments, "--graphs") > 0;
  std::string device = "cpu";
  if (const auto option = std::find(arguments.begin(), arguments.end(), "--device"); option != arguments.end() && option + 1 != arguments.end()) {
    device = option[1];
    arguments.erase(option, option + 2);
  }
  if (graphs && device == "cpu") {
    if (world.rank() == 0) std::cerr << "bench_step: --graphs is for a device: give --device cuda" << std::endl;
    return 2;
  }
  const std::string train = fmt::format("device: '{}', cuda_graphs: {}", device, graphs);
  try {
    for (const Case& c : cases()) {
      if (!arguments.empty() && std::find(arguments.begin(), arguments.end(), c.title()) == arguments.end()) continue;
      if (shards) {
        run_shards(world, c, quick ? 5 : 30);
        continue;
      }
      if (overlap) {
        run_overlap(world, c, quick ? 3 : 10);
        continue;
      }
      if (memory) {
        print_memory(train, world, c);
        continue;
      }
      if (!only_ours && device == "cpu") {
        run_case(world, c, quick ? 5 : 30);
        continue;
      }
      const double milliseconds = device == "cpu" ? milliseconds_of_ours(world, c, brief, wire) : milliseconds_of_device(train, world, c, brief);
      if (world.rank() == 0) std::cout << milliseconds << std::endl;
    }
  } catch (const tugline::AgreedError& error) {
    if (world.rank() == 0) std::cerr << "bench_step: " << error.what() << std::endl;
    return static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    std::cerr << "bench_step: " << error.what() << std::endl;
    world.communicator().abort(1);
  }
}
