// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/data_parallel.hpp"

#include <utility>

#include <torch/torch.h>

#include "tugline/core/error.hpp"
#include "tugline/core/models/module_tensors.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/node/node_memory.hpp"
#include "tugline/parallel/replicas.hpp"
#include "tugline/parallel/sync/bucket_reducer.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

ArenaOptions arena_options(const DataParallelOptions& options, const std::shared_ptr<NodeTeam>& node) {
  ArenaOptions result;
  if (node) result.allocator = shared_gradients(node);
  result.bucket_bytes = static_cast<std::int64_t>(options.bucket_mib * (1 << 20));
  return result;
}

/// A rank without samples may pass an undefined loss, or one that depends on no parameter.
void run_backward(const at::Tensor& loss) {
  if (loss.defined() && loss.requires_grad()) loss.backward();
}

}  // namespace

struct DataParallel::Impl {
  World& world;
  std::shared_ptr<NodeTeam> node;   // null: gradients go by message
  Arena arena;
  Arena buffers;
  BucketReducer reducer;
  double window_weight = 0;     // of this rank's backward passes under no_sync() since the last sum
  bool window_open = false;
  int no_sync = 0;

  Impl(World& world_in, torch::nn::Module& model, const DataParallelOptions& options, std::shared_ptr<NodeTeam> team)
      : world(world_in),
        node(std::move(team)),
        arena(named_parameters_of(model), arena_options(options, node)),
        buffers(named_buffers_of(model), {}),
        reducer(arena, node ? make_node_sum(node, arena) : make_message_sum(world_in.communicator(), arena, {.ring = world_in.num_hosts() > 1}),
                world_in.control()) {}

  static std::unique_ptr<Impl> make(World& world, torch::nn::Module& model, const DataParallelOptions& options);

  void add_to_window(const at::Tensor& loss_sum, double weight);
  double close_window(double weight, BucketHooks::Before& before);
  bool gradients_are_zero() const;
};

std::unique_ptr<DataParallel::Impl> DataParallel::Impl::make(World& world, torch::nn::Module& model,
                                                             const DataParallelOptions& options) {
  return with_node_team(world, options.shared_memory,
                        [&](std::shared_ptr<NodeTeam> team) { return std::make_unique<Impl>(world, model, options, std::move(team)); });
}

DataParallel::DataParallel(World& world, torch::nn::Module& model, DataParallelOptions options) {
  auto facts = layout_facts(named_parameters_of(model), "parameter");
  for (auto& fact : layout_facts(named_buffers_of(model), "buffer")) facts.push_back(std::move(fact));
  require_equal(world.control(), facts);
  impl_ = Impl::make(world, model, options);
  broadcast_values(world.communicator(), impl_->arena);
  broadcast_values(world.communicator(), impl_->buffers);
}
DataParallel::~DataParallel() = default;

bool DataParallel::Impl::gradients_are_zero() const {
  for (const auto& flat : arena.flats()) {
    if (flat.gradients.defined() && flat.gradients.count_nonzero().item<std::int64_t>() > 0) return false;
  }
  return true;
}

/// Gradients of plain sums, without a word to other ranks: what they are divided by is known when the window closes.
void DataParallel::Impl::add_to_window(const at::Tensor& loss_sum, double weight) {
  if (!window_open && !gradients_are_zero()) {
    throw Error("gradients are not zero at the start of a no_sync() window: call zero_grad() before it");
  }
  window_open = true;
  window_weight += weight;
  run_backward(loss_sum);   // disarmed: no bucket leaves
}

/// The weight of all ranks' passes since the last sum; what this rank's gradients hold so far is made to fit it.
double DataParallel::Impl::close_window(double weight, BucketHooks::Before& before) {
  const double total = world.control().all_reduce(window_weight + weight);
  const bool was_open = std::exchange(window_open, false);
  window_weight = 0;
  if (!(total > 0)) {
    throw Error("the weights given to DataParallel::backward() add up to zero over all ranks: some rank needs a sample");
  }
  if (was_open) {
    arena.rebind();
    for (const auto& flat : arena.flats()) {
      if (flat.gradients.defined()) at::Tensor(flat.gradients).div_(total);
    }
  }
  // Gradients that were kept from the last sum are equal on all ranks; one rank carries them into the next.
  before = was_open || world.rank() == 0 ? BucketHooks::Before::kept : BucketHooks::Before::forgotten;
  return total;
}

void DataParallel::backward(const at::Tensor& loss_sum, double weight) {
  Impl& self = *impl_;
  if (self.no_sync > 0) {
    self.arena.rebind();
    return self.add_to_window(loss_sum, weight);
  }
  self.arena.rebind_values();
  auto before = BucketHooks::Before::kept;
  const double total = self.close_window(weight, before);
  self.reducer.arm(1, before);
  try {
    run_backward(loss_sum.defined() ? loss_sum / total : loss_sum);
  } catch (...) {
    self.reducer.finish();   // the other ranks wait for this one's buckets, whatever is in them
    throw;
  }
  self.reducer.finish();
}

DataParallel::NoSync::NoSync(DataParallel& team) : team_(team) { ++team_.impl_->no_sync; }
DataParallel::NoSync::~NoSync() { --team_.impl_->no_sync; }

void DataParallel::average_buffers() { average_values(impl_->world.communicator(), impl_->buffers); }

Arena& DataParallel::arena() { return impl_->arena; }

}  // namespace tugline
