// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/data_parallel.hpp"

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

}  // namespace

struct DataParallel::Impl {
  World& world;
  Arena arena;
  Arena buffers;
  BucketReducer reducer;
  double window_weight = 0;     // this rank's, since the last sync
  double seed_weight = 0;       // what the window's backward passes are divided by; 0: no window is open
  int no_sync = 0;

  Impl(World& world_in, torch::nn::Module& model, const DataParallelOptions& options)
      : world(world_in),
        arena(named_parameters_of(model), arena_options(options)),
        buffers(named_buffers_of(model), {}),
        reducer(world_in.communicator(), arena) {}

  void open_window(double weight);
  void run_backward(const at::Tensor& loss_sum);
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

/// A window is what one sum over the ranks covers: some backward passes under no_sync() and the one after. All ranks divide
/// by one number, which for a window of one pass already is the exact total weight.
void DataParallel::Impl::open_window(double weight) {
  if (no_sync > 0 && !gradients_are_zero()) {
    throw Error("gradients are not zero at the start of a no_sync() window: call zero_grad() before it");
  }
  // Gradients that were kept are equal on all ranks; one rank carries them into the sum.
  if (world.rank() != 0) arena.zero_gradients();
  seed_weight = world.control().all_reduce(weight);
  if (!(seed_weight > 0)) {
    seed_weight = 0;
    throw Error("the weights given to DataParallel::backward() add up to zero over all ranks: some rank needs a sample");
  }
  window_weight = 0;
}

void DataParallel::Impl::run_backward(const at::Tensor& loss_sum) {
  if (loss_sum.defined() && loss_sum.requires_grad()) (loss_sum / seed_weight).backward();
}

void DataParallel::backward(const at::Tensor& loss_sum, double weight) {
  Impl& self = *impl_;
  self.arena.rebind();
  const bool first = self.seed_weight == 0;
  if (first) self.open_window(weight);
  self.window_weight += weight;
  if (self.no_sync > 0) {
    self.run_backward(loss_sum);   // disarmed: no bucket leaves
    return;
  }
  double scale = 1;
  if (!first) {
    const double total = self.world.control().all_reduce(self.window_weight);
    scale = self.seed_weight / total;
  }
  self.reducer.arm(1);
  self.run_backward(loss_sum);
  self.reducer.finish();
  if (scale != 1) {
    for (const auto& flat : self.arena.flats()) {
      if (flat.gradients.defined()) at::Tensor(flat.gradients).mul_(scale);
    }
  }
  self.seed_weight = 0;
}

DataParallel::NoSync::NoSync(DataParallel& team) : team_(team) { ++team_.impl_->no_sync; }
DataParallel::NoSync::~NoSync() { --team_.impl_->no_sync; }

void DataParallel::average_buffers() { average_values(impl_->world.communicator(), impl_->buffers); }

Arena& DataParallel::arena() { return impl_->arena; }

}  // namespace tugline
