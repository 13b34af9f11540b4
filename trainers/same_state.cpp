// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/same_state.hpp"

#include <vector>

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include "tugline/core/state/train_state.hpp"
#include "tugline/parallel/replicas.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {

void require_same_state(Communicator& control, const TrainState& state) {
  const auto values_of = [](const Arena& arena) {
    std::vector<at::Tensor> values;
    for (const auto& flat : arena.flats()) values.push_back(flat.values);
    return values;
  };
  auto buffers = values_of(state.buffers);
  for (auto& flat : buffers) {
    if (!is_averaged(flat)) flat = at::Tensor();   // a mask, say, may be each rank's own
  }
  try {
    require_same_bits(control, state.parameters, values_of(state.parameters), "parameter");
    require_same_bits(control, state.buffers, buffers, "buffer");
    for (const auto& slot : state.slots) require_same_bits(control, state.parameters, slot.buffers, slot.name + " of");
  } catch (const AgreedError& error) {
    throw AgreedError(error.exit_code(), fmt::format("after step {}: {}; something beside the optimizer has written it",
                                                     state.progress.step, error.what()));
  }
}

}  // namespace tugline
