// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/data_parallel.hpp"

#include <utility>

#include <torch/torch.h>

#include "tugline/core/error.hpp"
#include "tugline/core/models/module_tensors.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/replicas.hpp"
#include "tugline/parallel/sync/bucket_reducer.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

ArenaOptions arena_options(const DataParallelOptions& options) {
  ArenaOptions result;
  result.bucket_bytes = static_cast<std::int64_t>(options.bucket_mib * (1 << 20));
  result.first_bucket_bytes = static_cast<std::int64_t>(options.first_bucket_mib * (1 << 20));
  return result;
}

/// A rank without samples may pass an undefined loss, or one that depends on no parameter.
void run_backward(const at::Tensor& loss) {
  if (loss.defined() && loss.requires_grad()) loss.backward();
}

}  // namespace

struct DataParallel::Impl {
  World& world;
  Arena arena;
  Arena buffers;
  BucketReducer reducer;
  double window_weight = 0;     // of this rank's backward passes under no_sync() since the last sum
  bool window_open = false;
  int no_sync = 0;

  Impl(World& world_in, torch::nn::Module& model, const DataParallelOptions& options)
      : world(world_in),
        arena(named_parameters_of(model), arena_options(options)),
        buffers(named_buffers_of(model), {}),
        reducer(world_in.communicator(), arena) {}

  void add_to_window(const at::Tensor& loss_sum, double weight);
  double close_window(double weight);
  bool gradients_are_zero() const;
};

DataParallel::DataParallel(World& world, torch::nn::Module& model, DataParallelOptions options)
    : impl_(std::make_unique<Impl>(world, model, options)) {
  auto facts = layout_facts(impl_->arena, "parameter");
  for (auto& fact : layout_facts(impl_->buffers, "buffer")) facts.push_back(std::move(fact));
  require_equal(world.control(), facts);
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
double DataParallel::Impl::close_window(double weight) {
  const double total = world.control().all_reduce(window_weight + weight);
  const bool was_open = std::exchange(window_open, false);
  window_weight = 0;
  if (!(total > 0)) {
    throw Error("the weights given to DataParallel::backward() add up to zero over all ranks: some rank needs a sample");
  }
  if (was_open) {
    for (const auto& flat : arena.flats()) {
      if (flat.gradients.defined()) at::Tensor(flat.gradients).div_(total);
    }
  } else if (world.rank() != 0) {
    arena.zero_gradients();   // gradients that were kept are equal on all ranks; one rank carries them into the sum
  }
  return total;
}

void DataParallel::backward(const at::Tensor& loss_sum, double weight) {
  Impl& self = *impl_;
  self.arena.rebind();
  if (self.no_sync > 0) return self.add_to_window(loss_sum, weight);
  const double total = self.close_window(weight);
  self.reducer.arm(1);
  run_backward(loss_sum.defined() ? loss_sum / total : loss_sum);
  self.reducer.finish();
}

DataParallel::NoSync::NoSync(DataParallel& team) : team_(team) { ++team_.impl_->no_sync; }
DataParallel::NoSync::~NoSync() { --team_.impl_->no_sync; }

void DataParallel::average_buffers() { average_values(impl_->world.communicator(), impl_->buffers); }

Arena& DataParallel::arena() { return impl_->arena; }

}  // namespace tugline
