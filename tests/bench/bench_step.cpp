// SPDX-License-Identifier: Apache-2.0
// One training step of Tugline against the same model in a bare LibTorch loop, alternated in one process:
//   mpirun -n 2 bench_step [--quick]
//   mpirun -n 2 bench_step --ours mlp-64       prints milliseconds per step of Tugline's loop alone, for scripts/bench/ddp.sh
// The bare loop runs on every rank at once (as many copies as ranks, no communication), with torch::optim as a user would
// write it. Prints one JSON object per case on rank 0. Both sides are checked: equal losses on one rank, equal parameters on several.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/config/load.hpp"
#include "tugline/core/data/loader.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/learner.hpp"

namespace {

using namespace tugline;

struct Case {
  std::string name;
  std::string model;        // YAML
  std::string input;        // "features" or "image"
  std::int64_t batch_per_rank;
};

/// Random inputs of a fixed shape with labels that depend on them, all in memory.
class BenchData final : public Dataset {
 public:
  BenchData(std::vector<std::int64_t> shape, std::int64_t samples) : samples_(samples) {
    spec_.input_shape = std::move(shape);
    spec_.num_classes = 10;
    torch::manual_seed(7);
    inputs_ = torch::randn({samples, spec_.input_bytes() / 4});
    targets_ = inputs_.slice(1, 0, 10).argmax(1).contiguous();
  }
  const SampleSpec& spec() const override { return spec_; }
  std::int64_t size() const override { return samples_; }
  void read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const override {
    std::memcpy(input.data(), inputs_.data_ptr<float>() + index * inputs_.size(1), input.size());
    std::memcpy(target.data(), targets_.data_ptr<std::int64_t>() + index, target.size());
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
      : learner_(config, ModelRegistry(), data->spec(), world),
        order_(std::make_shared<SampleOrder>(data->size(), 0, false)),
        loader_(data, order_, nullptr, 0, LoaderOptions{}),
        strategy_(world.communicator(), world.control(), learner_.parameters(), learner_.optimizer(),
                  Schedule(config.optim, {1 << 30, 1, config.data.batch}), {data->size(), config.data.batch, true, 1 << 30}, {}) {}
  double step() {
    const Piece piece = *strategy_.next_piece();
    strategy_.begin_step(1, learner_.nominal_weight(piece));
    return strategy_.finish_step(learner_.compute_gradients(loader_, piece)).loss;
  }
  Learner& learner() { return learner_; }

 private:
  Learner learner_;
  std::shared_ptr<SampleOrder> order_;
  Loader loader_;
  SyncStrategy strategy_;
};

class BareLoop {
 public:
  BareLoop(const RunConfig& config, const BenchData& data, std::int64_t batch)
      : model_(ModelRegistry().build(config.model, data.spec(), config.seed)),
        optimizer_(model_->parameters(), torch::optim::SGDOptions(config.optim.lr).momentum(config.optim.momentum)),
        inputs_(data.inputs()), targets_(data.targets()), batch_(batch), shape_(data.spec().input_shape) {
    shape_.insert(shape_.begin(), batch);
  }
  double step() {
    if ((next_ + 1) * batch_ > inputs_.size(0)) next_ = 0;
    const at::Tensor x = inputs_.narrow(0, next_ * batch_, batch_).view(shape_);
    const at::Tensor y = targets_.narrow(0, next_++ * batch_, batch_);
    optimizer_.zero_grad();
    const at::Tensor loss = torch::cross_entropy_loss(model_->forward(x), y);
    loss.backward();
    optimizer_.step();
    return loss.item<double>();
  }

 private:
  std::shared_ptr<Model> model_;
  torch::optim::SGD optimizer_;
  at::Tensor inputs_, targets_;
  std::int64_t batch_, next_ = 0;
  std::vector<std::int64_t> shape_;
};

template <typename Loop>
double seconds_of(Loop& loop, int steps) {
  const double start = Clock::steady().seconds();
  for (int i = 0; i < steps; ++i) loop.step();
  return (Clock::steady().seconds() - start) / steps;
}

double percentile(std::vector<double> values, double fraction) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(std::lround(fraction * static_cast<double>(values.size() - 1)))];
}

/// One rank: both loops see the same batches, so their losses must agree. Several: replicas must be equal bit for bit.
void check(World& world, TuglineLoop& ours, BareLoop& bare) {
  for (int i = 0; i < 5; ++i) {
    const double a = ours.step(), b = bare.step();
    if (world.size() == 1 && std::abs(a - b) > 1e-4 * std::max(1.0, std::abs(b))) {
      throw Error(fmt::format("step {}: loss {} against {} in the bare loop", i, a, b));
    }
  }
  for (const auto& flat : ours.learner().parameters().flats()) {
    at::Tensor largest = flat.values.clone();
    world.control().all_reduce(largest.data_ptr(), largest.numel(), DType::float32, ReduceOp::max);
    if (!largest.equal(flat.values)) throw Error("parameters differ between ranks");
  }
}

RunConfig config_of(World& world, const Case& c) {
  return parse_config(fmt::format("data: {{batch: {}}}\nmodel: {}\noptim: {{name: sgd, lr: 0.01, momentum: 0.9}}\n",
                                  c.batch_per_rank * world.size(), c.model), c.name);
}

std::shared_ptr<BenchData> data_of(World& world, const Case& c) {
  const std::vector<std::int64_t> shape = c.input == "image" ? std::vector<std::int64_t>{1, 28, 28} : std::vector<std::int64_t>{784};
  return std::make_shared<BenchData>(shape, std::max<std::int64_t>(2048, 4 * c.batch_per_rank * world.size()));
}

void run_case(World& world, const Case& c, int blocks) {
  const RunConfig config = config_of(world, c);
  const std::shared_ptr<BenchData> data = data_of(world, c);
  TuglineLoop ours(world, config, data);
  BareLoop bare(config, *data, c.batch_per_rank);
  check(world, ours, bare);

  std::vector<double> ratios, milliseconds;
  for (int block = 0; block < blocks; ++block) {
    world.control().barrier();
    seconds_of(ours, 5);
    const double a = seconds_of(ours, 30);
    world.control().barrier();
    seconds_of(bare, 5);
    double b = seconds_of(bare, 30);
    b = world.control().all_reduce(b, ReduceOp::max);
    ratios.push_back(world.control().all_reduce(a, ReduceOp::max) / b);
    milliseconds.push_back(1e3 * a);
  }
  if (world.rank() != 0) return;
  boost::json::object row{{"bench", "step"},
                          {"case", fmt::format("{}-{} per rank, {} rank{}, {:.2f} ms", c.name, c.batch_per_rank, world.size(),
                                               world.size() == 1 ? "" : "s", percentile(milliseconds, 0.5))},
                          {"value", percentile(ratios, 0.5)}, {"p10", percentile(ratios, 0.1)}, {"p90", percentile(ratios, 0.9)},
                          {"unit", "x"}, {"better", "lower"}, {"peer", "bare LibTorch loop, torch::optim::SGD, as many copies at once"},
                          {"goal", nullptr}};
  std::cout << boost::json::serialize(row) << std::endl;
}

/// The slowest rank's milliseconds per step: the median of `blocks` blocks of 30.
double milliseconds_of_ours(World& world, const Case& c, int blocks) {
  const RunConfig config = config_of(world, c);
  const std::shared_ptr<BenchData> data = data_of(world, c);
  TuglineLoop ours(world, config, data);
  BareLoop bare(config, *data, c.batch_per_rank);
  check(world, ours, bare);
  std::vector<double> milliseconds;
  for (int block = 0; block < blocks; ++block) {
    world.control().barrier();
    seconds_of(ours, 5);
    milliseconds.push_back(1e3 * world.control().all_reduce(seconds_of(ours, 30), ReduceOp::max));
  }
  return percentile(milliseconds, 0.5);
}

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const std::int64_t batch : {64, 256}) {
    result.push_back({"mlp", "{name: mlp, hidden: [1024, 1024]}", "features", batch});
    result.push_back({"convnet", "{name: convnet, channels: [16, 32], norm: none}", "image", batch});
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  tugline::World world{argc, argv};
  at::set_num_threads(1);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool quick = std::find(arguments.begin(), arguments.end(), "--quick") != arguments.end();
  try {
    for (const Case& c : cases()) {
      if (arguments.size() == 2 && arguments[0] == "--ours") {
        if (arguments[1] != fmt::format("{}-{}", c.name, c.batch_per_rank)) continue;
        const double milliseconds = milliseconds_of_ours(world, c, 10);
        if (world.rank() == 0) std::cout << milliseconds << std::endl;
      } else {
        run_case(world, c, quick ? 5 : 30);
      }
    }
  } catch (const std::exception& error) {
    std::cerr << "bench_step: " << error.what() << std::endl;
    world.communicator().abort(1);
  }
}
