// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/sync/steps_ahead.hpp"

#include <cmath>
#include <utility>

#include <torch/torch.h>

#include "tugline/core/optim/clip.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/sync/bucket_sum.hpp"

namespace tugline {
namespace {

/// 0; or NaN, as zero times what is not finite is.
at::Tensor zero_if_finite(const at::Tensor& values) { return values.mul(0).sum(); }

}  // namespace

StepsAhead::StepsAhead(Communicator& gradients, const Arena& arena, std::vector<Range> watched, Options options)
    : gradients_(gradients), arena_(arena), watched_(std::move(watched)), options_(options) {}

LateVerdict StepsAhead::add(const GlobalStep& step, const StepReport& report, std::int64_t samples, double scale) {
  const torch::NoGradGuard no_grad;
  const bool counts = step.weight > 0;   // otherwise its gradients move nothing, whatever they are
  std::vector<at::Tensor> looked{at::zeros({1}, at::TensorOptions(at::kDouble).device(arena_.device()))};
  if (counts) looked.push_back(magnitude_there(arena_).reshape({1}));
  if (report.late) {
    for (const at::Tensor& sum : report.late->sums) looked.push_back(sum.narrow(0, 0, 1));
  }
  // What all must know alike: whether some rank has seen something that is not finite, and the sum of squares.
  at::Tensor squares = at::zeros({}, looked.front().options());
  for (std::size_t i = 0; counts && options_.norm && i < watched_.size(); ++i) squares += squared_norm_there(arena_, watched_[i]);
  const at::Tensor common = at::stack({zero_if_finite(at::cat(looked)), squares});
  if (gradients_.size() > 1) gradients_.all_reduce(common.data_ptr(), common.numel(), dtype_of(common));

  LateVerdict verdict{.left_out = zero_if_finite(common).ne(0), .own_samples = static_cast<double>(samples), .samples = static_cast<double>(step.piece.global_size())};
  if (options_.hold) verdict.left_out = held_ = held_.defined() ? held_.bitwise_or(verdict.left_out) : verdict.left_out;
  if (options_.clip_norm > 0) verdict.scale = clip_factor_there(common[1].sqrt() * scale, options_.clip_norm) * scale;
  steps_.push_back({.report = report, .numbers = {common, verdict.left_out}});
  told_.push_back({step, samples, scale});
  return verdict;
}

void StepsAhead::mark_end() {
  DeviceTimer& over = steps_.back().over.emplace(arena_.device());
  over.start();
  over.stop();
}

std::vector<StepsAhead::Read> StepsAhead::read() {
  read_late(steps_);
  if (!steps_.empty()) before_ = std::move(steps_.back().over);
  std::vector<Read> all;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const std::vector<double>& values = steps_[i].values;
    const bool finite = values[0] == 0 && std::isfinite(values[1]);
    all.push_back({.part = {steps_[i].report, told_[i].samples, finite}, .step = told_[i].step, .norm = std::sqrt(values[1]) * told_[i].scale, .left_out = values[2] != 0});
  }
  steps_.clear();
  told_.clear();
  held_.reset();
  return all;
}

}  // namespace tugline
