// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/replicas.hpp"

#include <xxhash.h>

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/sync/exchange.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {

std::vector<std::pair<std::string, std::string>> layout_facts(const std::vector<NamedTensor>& tensors, const std::string& kind) {
  std::vector<std::pair<std::string, std::string>> facts;
  facts.emplace_back("number of " + kind + "s", std::to_string(tensors.size()));
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, tensor] = tensors[i];
    // The name is a value too: two models may have the same shapes under other names.
    facts.emplace_back(fmt::format("{} {}", kind, i), fmt::format("{} [{}] {}{}", name, fmt::join(tensor.sizes(), ", "),
                                                                  c10::toString(tensor.scalar_type()),
                                                                  tensor.requires_grad() ? "" : " without gradient"));
  }
  return facts;
}

void broadcast_values(Communicator& communicator, Arena& arena, int root) {
  for (const auto& flat : arena.flats()) {
    const at::Tensor host = flat.values.cpu();   // the same tensor where it is there already
    communicator.broadcast(host.data_ptr(), static_cast<std::int64_t>(host.nbytes()), root);
    if (!host.is_same(flat.values)) at::Tensor(flat.values).copy_(host);
  }
}

bool is_averaged(const at::Tensor& values) {
  return values.is_floating_point() || values.scalar_type() == at::kLong || values.scalar_type() == at::kInt;
}

void average_values(Communicator& communicator, Arena& arena, Weight weight) {
  if (communicator.size() == 1) return;
  torch::NoGradGuard no_grad;
  const bool there = communicator.takes_device_memory();   // NCCL: the host does not wait
  if (!(weight.all > 0)) weight = {1, static_cast<double>(communicator.size())};
  for (const auto& flat : arena.flats()) {
    at::Tensor values = flat.values;
    if (values.is_floating_point()) {
      // In float64 the mean of equal float32 values is that value.
      at::Tensor mean = values.to(there ? values.device() : at::kCPU, at::kDouble, /*non_blocking=*/false, /*copy=*/true);
      communicator.all_reduce(mean.mul_(weight.mine).data_ptr(), mean.numel(), DType::float64, ReduceOp::sum);
      values.copy_(mean.div_(weight.all));
    } else if (is_averaged(values)) {
      const at::Tensor largest = there ? values : values.cpu();
      communicator.all_reduce(largest.data_ptr(), largest.numel(), dtype_of(largest), ReduceOp::max);
      if (!largest.is_same(values)) values.copy_(largest);
    }
  }
}

namespace {

std::uint64_t digest_of(const at::Tensor& dense) {
  if (!dense.defined()) return 0;
  const at::Tensor host = dense.cpu();
  return XXH3_64bits(host.const_data_ptr(), host.nbytes());
}

/// The lowest rank whose digests are not rank 0's; -1: none. Collective.
int first_other_rank(Communicator& control, const std::vector<std::uint64_t>& digests) {
  std::vector<std::uint64_t> all(digests.size() * static_cast<std::size_t>(control.size()));
  control.all_gather(digests.data(), static_cast<std::int64_t>(digests.size() * sizeof(std::uint64_t)), all.data());
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i] != all[i % digests.size()]) return static_cast<int>(i / digests.size());
  }
  return -1;
}

}  // namespace

void require_same_bits(Communicator& control, const Arena& arena, const std::vector<at::Tensor>& buffers, const std::string& what) {
  if (control.size() == 1 || buffers.empty()) return;
  std::vector<std::uint64_t> digests;
  for (const auto& buffer : buffers) digests.push_back(digest_of(buffer));
  if (first_other_rank(control, digests) < 0) return;
  for (const auto& slot : arena.slots()) {   // which one: rarely needed, so slow and simple
    if (!buffers[static_cast<std::size_t>(slot.range.buffer)].defined()) continue;
    const at::Tensor mine = arena.view(buffers, slot);
    if (const int rank = first_other_rank(control, {digest_of(mine)}); rank >= 0) {
      throw AgreedError(ExitCode::disagree, fmt::format("{} '{}' differs between rank 0 and rank {}", what, slot.name, rank));
    }
  }
  throw AgreedError(ExitCode::disagree, fmt::format("the padding between {}s differs between ranks: something writes outside of its tensor", what));
}

}  // namespace tugline
