// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>
#include <c10/util/FunctionRef.h>

namespace tugline {

/// Calls part(begin, end) for slices of the elements of `flat`, a contiguous tensor of the host, on as many of LibTorch's threads as there are
/// `grain` elements, at most at::get_num_threads(). at::parallel_for does that only in code that is built with OpenMP, as LibTorch is and this is not.
void on_threads(const at::Tensor& flat, std::int64_t grain, c10::function_ref<void(std::int64_t begin, std::int64_t end)> part);

}  // namespace tugline
