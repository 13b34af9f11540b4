// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/replicas.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/sync/bucket_reducer.hpp"

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
    communicator.broadcast(flat.values.data_ptr(), static_cast<std::int64_t>(flat.values.nbytes()), root);
  }
}

void average_values(Communicator& communicator, Arena& arena) {
  if (communicator.size() == 1) return;
  torch::NoGradGuard no_grad;
  for (const auto& flat : arena.flats()) {
    at::Tensor values = flat.values;
    if (values.is_floating_point()) {
      // In float64 the mean of equal float32 values is that value.
      at::Tensor mean = values.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
      communicator.all_reduce(mean.data_ptr(), mean.numel(), DType::float64, ReduceOp::sum);
      values.copy_(mean.div_(communicator.size()));
    } else if (values.scalar_type() == at::kLong || values.scalar_type() == at::kInt) {
      communicator.all_reduce(values.data_ptr(), values.numel(), dtype_of(values), ReduceOp::max);
    }
  }
}

}  // namespace tugline
