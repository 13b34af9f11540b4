// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "tugline/core/state/arena.hpp"

namespace tugline {

/// Sum of squares of the gradients in `ranges`, in float64. The same bits for any number of threads; ranks that own
/// different ranges add their sums.
double squared_norm(const Arena& arena, std::span<const Range> ranges);

/// The same of one range, as a tensor where the arena is: on a device the host does not wait for it.
at::Tensor squared_norm_there(const Arena& arena, const Range& range);

/// What gradients of norm `norm` are multiplied by so that it is at most `max_norm`: 1 when it is, as in
/// torch::nn::utils::clip_grad_norm_. Give it to Optimizer::step within grad_scale.
double clip_factor(double norm, double max_norm);
/// The same, where `norm` (float64) is.
at::Tensor clip_factor_there(const at::Tensor& norm, double max_norm);

/// Cuts each gradient element in `ranges` to [-limit, limit]. The limit is in units of the stored gradients: divide it by a
/// grad_scale that is still to come.
void clip_by_value(const Arena& arena, std::span<const Range> ranges, double limit);

}  // namespace tugline
