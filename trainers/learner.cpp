// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/learner.hpp"

#include <algorithm>
#include <unordered_map>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <fmt/format.h>
#include <torch/torch.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/device.hpp"
#include "tugline/core/models/autocast.hpp"
#include "tugline/core/models/batch_norm.hpp"
#include "tugline/core/models/module_tensors.hpp"
#include "tugline/core/random.hpp"
#include "tugline/core/state/load_weights.hpp"
#include "tugline/core/trace_range.hpp"
#include "tugline/parallel/late_report.hpp"
#include "tugline/parallel/node/node_memory.hpp"
#include "tugline/parallel/replicas.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/device_channel.hpp"

namespace tugline {
namespace {

/// Weights change place, dtype and memory format before the arena takes them: afterwards that would break the binding.
void prepare_weights(Model& model, const TrainConfig& config, at::Device device) {
  if (!device.is_cpu()) model.to(device);
  if (config.precision == "float64") model.to(torch::kFloat64);
  if (!config.channels_last) return;
  torch::NoGradGuard no_grad;
  for (auto& parameter : model.parameters()) {
    if (parameter.dim() == 4) parameter.set_data(parameter.contiguous(at::MemoryFormat::ChannelsLast));
  }
}

ArenaOptions parameter_options(const std::vector<NamedTensor>& parameters, const RunConfig& config, at::Device device) {
  auto groups = std::make_shared<std::unordered_map<std::string, int>>();
  for (const auto& [name, tensor] : parameters) (*groups)[name] = group_of(config.optim, name, tensor.dim());
  ArenaOptions options;
  options.device = device;
  options.bucket_bytes = static_cast<std::int64_t>(config.parallel.bucket_mib * (1 << 20));
  options.group_of = [groups](const std::string& name) { return groups->at(name); };
  return options;
}

/// The same parameters in the host's memory.
std::vector<NamedTensor> on_the_host(std::vector<NamedTensor> parameters) {
  for (auto& [name, tensor] : parameters) tensor = tensor.detach().to(at::kCPU).set_requires_grad(tensor.requires_grad());
  return parameters;
}

ExchangeOptions exchange_options(const ParallelConfig& config, const World& world) {
  ExchangeOptions options;
  options.bfloat16 = config.wire == "bfloat16";
  options.ring = config.all_reduce == "ring" || (config.all_reduce == "auto" && world.num_hosts() > 1);
  return options;
}

void require_shards_fit(const RunConfig& config, Model& model, int ranks) {
  const std::int64_t shards = config.parallel.shards;
  if (shards == 0) return;
  if ((ranks & (ranks - 1)) != 0 || ranks > shards) {
    throw ConfigError(fmt::format("parallel.shards: {} shards are for 1, 2, 4, ... ranks up to as many, and there are {}", shards, ranks));
  }
  const auto buffers = named_buffers_of(model);
  if (!buffers.empty()) {
    throw ConfigError(fmt::format("parallel.shards: the model has a buffer, '{}', and buffers may depend on which rank sees which "
                                  "samples; use model.norm: group", buffers.front().name));
  }
}

void seed_dropout(std::uint64_t seed, at::Device device) {
  const auto seed_one = [seed](at::Generator generator) {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_current_seed(seed);
  };
  seed_one(at::detail::getDefaultCPUGenerator());
  if (device.is_cuda()) seed_one(at::globalContext().defaultGenerator(device));
}

}  // namespace

Learner::Learner(const RunConfig& config, const ModelRegistry& models, const SampleSpec& spec, World& world,
                 std::unique_ptr<Task> task, ParameterCopies copies)
    : seed_(config.seed),
      micro_batch_(config.train.micro_batch),
      shards_(static_cast<int>(config.parallel.shards)),
      host_channel_(world.communicator()),
      float64_(config.train.precision == "float64"),
      reduced_(reduced_type(config.train.precision)),
      loss_scale_(config.train.precision == "fp16"),
      channels_last_(config.train.channels_last),
      goes_ahead_(config.train.read_every > 1),
      exchange_(exchange_options(config.parallel, world)),
      task_(std::move(task)) {
  agree(world.control(), [&] { device_ = device_from(config.train.device, world.local_rank()); });
  if (device_.is_cuda()) allow_tf32(config.train.tf32);
  channel_ = make_device_channel(world, config.parallel, device_);
  if (config.train.cuda_graphs && !device_.is_cpu()) graphs_.emplace(device_, [this](const Batch& there) { return sums_of(there); });
  copy_ = BatchCopy(device_);
  agree(world.control(), [&] {
    model_ = models.build(config.model, spec, config.seed);
    if (!task_) task_ = make_task(config.task, spec);
    prepare_weights(*model_, config.train, device_);
    require_shards_fit(config, *model_, world.size());
  });
  auto facts = layout_facts(named_parameters_of(*model_), "parameter");
  for (auto& fact : layout_facts(named_buffers_of(*model_), "buffer")) facts.push_back(std::move(fact));
  require_equal(world.control(), facts);
  make_arenas(config, world, copies);
  broadcast_values(world.communicator(), *buffers_);
  if (common_parameters()) {
    if (writes_parameters() && node_->lane() != nullptr) broadcast_values(*node_->lane(), *parameters_);
    node_->barrier();   // the first on each host has filled the one copy
  } else {
    broadcast_values(world.communicator(), *parameters_);
  }
  if (config.model.batch_norm == "sync" && has_batch_norm(*model_)) {
    batch_norm_ = world.control().duplicate();
    set_batch_norm_reduction(*model_, [this](at::Tensor& sums) {
      const at::Tensor host = sums.cpu();   // from a device only when this rank's own work is done: not yet waiting for others
      const double start = Clock::steady().seconds(), cpu = thread_cpu_seconds();
      batch_norm_->all_reduce(host.data_ptr(), host.numel(), dtype_of(host));
      if (!host.is_same(sums)) sums.copy_(host);
      waited_ += Clock::steady().seconds() - start;
      waited_cpu_ += thread_cpu_seconds() - cpu;
    });
  }
}
Learner::~Learner() = default;

void Learner::make_arenas(const RunConfig& config, World& world, ParameterCopies copies) {
  const auto named = named_parameters_of(*model_);
  buffers_ = std::make_unique<Arena>(named_buffers_of(*model_), ArenaOptions{.device = device_});
  const bool async = copies == ParameterCopies::per_host && config.parallel.strategy == "async", on_device = !device_.is_cpu();
  // Across hosts, shards are added up by message.
  const bool wanted = (async || !on_device) && config.parallel.shared_memory != "off" && (shards_ == 0 || world.num_hosts() == 1);
  with_node_team(world, wanted, [&](std::shared_ptr<NodeTeam> team) {
    ArenaOptions options = parameter_options(named, config, device_);
    const bool one_copy = team && copies == ParameterCopies::per_host && config.parallel.shared_memory == "auto" && shards_ == 0 &&
                          config.parallel.strategy == "sync";
    if (team && !async) options.allocator = one_copy ? shared_everything(team) : shared_gradients(team);
    if (async) options.allocator = shared_but_values(team);
    options.values_are_there = one_copy && team->rank() != 0;
    node_ = std::move(team);
    if (async && on_device) {   // its memory is what ranks share; the arena on the device is this rank's alone
      ArenaOptions on_host = options;
      on_host.device = at::kCPU;
      staging_ = std::make_unique<Arena>(on_the_host(named), on_host);
    }
    parameters_ = std::make_unique<Arena>(named, options);
    common_ = async ? exchanged().like("common parameters") : std::vector<at::Tensor>();
    optimizer_ = make_optimizer(config.optim, exchanged(), common_);
  });
  if (!async || world.size() == 1) return;
  if (!node_) throw AgreedError(ExitCode::config, "parallel.strategy async needs the ranks of a host to share memory; use parallel.strategy sync or local");
}

void Learner::init_from(const std::string& file, World& world) {
  agree(world.control(), [&] {   // and the barrier after which all see the common copy
    const auto arrays = read_weights(file);
    try {
      load_weights(arrays, *parameters_, *buffers_, !writes_parameters());
    } catch (const DataError& error) {
      throw DataError(fmt::format("{}: {}", file, error.what()));
    }
  });
}

bool Learner::common_parameters() const {
  return has_common_values(node_.get(), *parameters_);
}

bool Learner::writes_parameters() const { return !common_parameters() || node_->rank() == 0; }

int Learner::backwards(const Piece& piece) const {
  if (piece.size() == 0) return 0;
  return static_cast<int>((piece.size() + pass_size(piece) - 1) / pass_size(piece));
}

/// Samples that go through forward and backward at once.
std::int64_t Learner::pass_size(const Piece& piece) const {
  if (shards_ > 0) return shard_size(piece, shards_);
  return micro_batch_ > 0 ? micro_batch_ : std::max<std::int64_t>(piece.size(), 1);
}

at::Tensor Learner::forward(const at::Tensor& input) {
  at::Tensor converted = input.to(device_);
  if (float64_ && input.is_floating_point()) converted = converted.to(at::kDouble);
  if (channels_last_ && input.is_floating_point() && input.dim() == 4) converted = converted.contiguous(at::MemoryFormat::ChannelsLast);
  const Autocast autocast(device_.type(), reduced_);
  const at::Tensor output = model_->forward(converted);
  return reduced_ && output.is_floating_point() ? output.to(at::kFloat) : output;   // losses and metrics are no place to save bits
}

bool Learner::overflowed(const StepFacts& facts) {
  if (!facts.finite) return facts.nonfinite_rank < 0 && !facts.spike && loss_scale_.shrink();
  loss_scale_.note_finite();
  return false;
}

StepReport Learner::compute_gradients(Loader& loader, const Piece& piece) {
  const Clock& clock = Clock::steady();
  const double start = clock.seconds();
  const double nominal = nominal_weight(piece);
  const std::int64_t micro = std::max<std::int64_t>(pass_size(piece), 1);
  double data_seconds = 0, cpu_seconds = 0;
  waited_ = waited_cpu_ = 0;
  std::vector<StepReport> passes;
  const auto late = device_.is_cpu() || piece.size() == 0 ? nullptr : std::make_shared<LateReport>(device_);
  if (late) late->started = start;
  for (std::int64_t begin = piece.begin; begin < piece.end; begin += micro) {
    const double before = clock.seconds();
    heartbeat_.enter(Phase::data);
    const Batch batch = [&] {
      const TraceRange range("data");
      return loader.take(piece.epoch, begin, std::min(begin + micro, piece.end));
    }();
    data_seconds += clock.seconds() - before;
    heartbeat_.enter(Phase::compute);
    const double cpu_before = thread_cpu_seconds();
    if (late) {
      if (passes.size() == 2) wait_for_start(*late);
      late->timer.wait(1);   // or all batches of the step would be on the device at once
      heartbeat_.enter(Phase::compute);
      late->timer.start();
    }
    compute_gradients(batch, nominal, mix_seed(seed_, Purpose::dropout, static_cast<std::uint64_t>(piece.step), static_cast<std::uint64_t>(begin)),
                      passes.emplace_back(), late.get());
    if (late) late->timer.stop();
    cpu_seconds += thread_cpu_seconds() - cpu_before;
  }
  StepReport report = add_pairwise(std::move(passes));
  report.data_seconds = data_seconds;
  report.compute_seconds = (late ? 0 : clock.seconds() - start - data_seconds) - waited_;
  report.cpu_seconds = cpu_seconds - waited_cpu_;
  if (late) late->phase = [this](bool computing) { heartbeat_.enter(computing ? Phase::compute : Phase::waiting); };
  report.late = late;
  return report;
}

/// Waits until the device has come to this step: the one before ends with a sum, for which it waits for other ranks. What it has yet to
/// compute of earlier steps counts as waiting here: nobody is named for that.
void Learner::wait_for_start(const LateReport& late) {
  if (!goes_ahead_) return;   // the host knows how the one before ended
  heartbeat_.enter(Phase::waiting);
  late.timer.wait_for_start();
  heartbeat_.enter(Phase::compute);
}

/// One micro-batch. On a device its sums go into `late`.
void Learner::compute_gradients(const Batch& batch, double nominal_weight, std::uint64_t dropout_seed, StepReport& report, LateReport* late) {
  seed_dropout(dropout_seed, device_);
  model_->train();
  const Batch there = to_device(batch);
  if (late != nullptr && graphs_ && graphs_->waits_for_device(there)) wait_for_start(*late);
  std::optional<PassSums> sums = graphs_ ? graphs_->run(there, nominal_weight, *parameters_) : std::nullopt;
  if (!sums) {
    sums = sums_of(there);
    const TraceRange range("backward");
    (sums->loss / nominal_weight).backward();
  }
  torch::NoGradGuard no_grad;
  report.weight = task_->weight(batch.target);
  report.counted = sums->correct.defined() ? task_->counted(batch.target) : 0;
  if (late != nullptr) return late->add(sums->loss, sums->correct);
  report.loss_sum = sums->loss.item<double>();
  report.correct = sums->correct.defined() ? sums->correct.item<double>() : 0;
}

PassSums Learner::sums_of(const Batch& there) {
  const TraceRange range("forward");
  const at::Tensor output = forward(there.input);
  PassSums sums{task_->loss(output, there.target), {}};
  const torch::NoGradGuard no_grad;
  if (task_->has_accuracy()) sums.correct = task_->correct(output, there.target);
  return sums;
}

EvalSums Learner::evaluate(const Batch& batch) {
  heartbeat_.enter(Phase::evaluation);
  torch::NoGradGuard no_grad;
  const bool training = model_->is_training();
  model_->eval();
  const Batch there = to_device(batch);
  const EvalSums sums = task_->evaluate(forward(there.input), there.target);
  model_->train(training);
  return sums;
}

}  // namespace tugline
