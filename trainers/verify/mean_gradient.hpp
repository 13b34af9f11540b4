// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tugline {

class Arena;
class Communicator;
class Learner;
class Loader;
class ShareRule;
class World;
struct StepPlan;

/// Collective over `world`. The gradient of the mean loss over step `step` of `plan`, made as training makes it (shares, equal ones without
/// a rule; micro-batches, buckets, the exact weight) and not applied. It stays in the learner's arena; the result is a copy of it,
/// see flat_gradients().
at::Tensor mean_gradient(Learner& learner, World& world, Loader& loader, const StepPlan& plan, std::int64_t step,
                         std::shared_ptr<ShareRule> shares = nullptr);

/// Gradients (values) of the trainable parameters, one after the other in the order of arena.slots(): [numel], float64.
at::Tensor flat_gradients(const Arena& arena);
at::Tensor flat_values(const Arena& arena);

/// Copies values; the arenas must have been made from the same config.
void copy_values(const Arena& from, Arena& to);

/// How far a gradient is from another, per parameter, as max |difference| / max |gradient| over the whole model.
struct GradientDifference {
  double largest_gradient = 0;             ///< of the second
  std::vector<std::string> parameters;     ///< trainable ones, in the order of arena.slots()
  std::vector<double> differences;         ///< infinity where one of the two is not finite
  double worst() const;
};
GradientDifference compare_gradients(const at::Tensor& gradient, const at::Tensor& reference, const Arena& layout);

/// Collective. Each parameter's largest difference on any rank.
void take_worst_of_ranks(GradientDifference& difference, Communicator& control);

}  // namespace tugline
