// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/optim/clip.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/scalar_tensor.h>

#include "tugline/core/optim/on_threads.hpp"

namespace tugline {
namespace {

/// Blocks of a fixed size, each summed in lanes: the order of additions depends on the length alone.
constexpr std::int64_t kBlock = 1 << 15;
constexpr std::int64_t kLanes = 8;

template <typename T>
double block_sum_of_squares(const T* values, std::int64_t count) {
  std::array<double, kLanes> sums{};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const auto value = static_cast<double>(values[i + lane]);
      sums[static_cast<std::size_t>(lane)] += value * value;
    }
  }
  for (; i < count; ++i) sums[0] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

template <typename T>
double sum_of_squares(const T* values, std::int64_t count) {
  const std::int64_t num_blocks = (count + kBlock - 1) / kBlock;
  const at::Tensor partial = at::empty({num_blocks}, at::kDouble);
  auto* const sums = partial.data_ptr<double>();
  on_threads(partial, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t offset = block * kBlock;
      sums[block] = block_sum_of_squares(values + offset, std::min(kBlock, count - offset));
    }
  });
  return std::accumulate(sums, sums + num_blocks, 0.0);
}

double squared_norm(const at::Tensor& flat) {
  if (flat.scalar_type() == at::kDouble) return sum_of_squares(flat.const_data_ptr<double>(), flat.numel());
  const at::Tensor narrow = flat.to(at::kFloat);  // the same tensor when it is float32 already
  return sum_of_squares(narrow.const_data_ptr<float>(), narrow.numel());
}

/// On a device the host waits once, for the sum.
double squared_norm_on_device(const Arena& arena, std::span<const Range> ranges) {
  at::Tensor sum;
  for (const Range& range : ranges) {
    const at::Tensor square = squared_norm_there(arena, range);
    sum = sum.defined() ? sum + square : square;
  }
  return sum.defined() ? sum.item<double>() : 0;
}

}  // namespace

double squared_norm(const Arena& arena, std::span<const Range> ranges) {
  if (!arena.device().is_cpu()) return squared_norm_on_device(arena, ranges);
  double sum = 0;
  for (const Range& range : ranges) sum += squared_norm(arena.gradients(range));
  return sum;
}

at::Tensor squared_norm_there(const Arena& arena, const Range& range) {
  const at::Tensor gradients = arena.gradients(range);
  if (gradients.device().is_cpu()) return at::scalar_tensor(squared_norm(gradients), at::kDouble);
  return at::linalg_vector_norm(gradients, 2, {}, false, at::kDouble).square();
}

double clip_factor(double norm, double max_norm) { return std::min(1.0, max_norm / (norm + 1e-6)); }
at::Tensor clip_factor_there(const at::Tensor& norm, double max_norm) { return at::full_like(norm, max_norm).div_(norm + 1e-6).clamp_max_(1); }

void clip_by_value(const Arena& arena, std::span<const Range> ranges, double limit) {
  for (const Range& range : ranges) arena.gradients(range).clamp_(-limit, limit);
}

}  // namespace tugline
