// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/replicas.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/sync/bucket_reducer.hpp"

namespace tugline {

std::vector<std::pair<std::string, std::string>> layout_facts(const Arena& arena, const std::string& kind) {
  std::vector<std::pair<std::string, std::string>> facts;
  facts.emplace_back("number of " + kind + "s", std::to_string(arena.slots().size()));
  for (const auto& slot : arena.slots()) {
    facts.emplace_back(kind + " " + slot.name, fmt::format("[{}] {}", fmt::join(slot.parameter.sizes(), ", "),
                                                           c10::toString(slot.parameter.scalar_type())));
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
    const bool mean = values.is_floating_point();
    communicator.all_reduce(values.data_ptr(), values.numel(), dtype_of(values), mean ? ReduceOp::sum : ReduceOp::max);
    if (mean) values.div_(communicator.size());
  }
}

}  // namespace tugline
