// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/optim/on_threads.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>

namespace tugline {

void on_threads(const at::Tensor& flat, std::int64_t grain, c10::function_ref<void(std::int64_t begin, std::int64_t end)> part) {
  if (flat.numel() < 2 * grain || at::get_num_threads() == 1) return part(0, flat.numel());
  const auto* const base = static_cast<const char*>(flat.const_data_ptr());
  const auto element = static_cast<std::int64_t>(flat.element_size());
  auto slices = at::TensorIterator::nullary_op(const_cast<at::Tensor&>(flat));
  slices.for_each(
      [&](char** data, const std::int64_t* /*strides*/, std::int64_t count) {
        const std::int64_t begin = (data[0] - base) / element;
        part(begin, begin + count);
      },
      grain);
}

}  // namespace tugline
