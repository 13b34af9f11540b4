// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <torch/torch.h>

#include "tugline/trainers/overfit/attempt.hpp"
#include "tugline/trainers/overfit/checks.hpp"
#include "tugline/trainers/verify/forward_trace.hpp"
#include "tugline/trainers/verify/mean_gradient.hpp"

namespace tugline {
namespace {

/// Differences that matter are of order 1; rounding of float32 parameters stays far below this.
constexpr double kTolerance = 0.02;

double largest(const at::Tensor& values) { return values.numel() == 0 ? 0 : values.abs().max().item<double>(); }

double distance(const at::Tensor& a, const at::Tensor& b) { return largest(a - b) / std::max(largest(b), 1e-300); }

/// The factor that brings `b` nearest to `a`.
double factor_between(const at::Tensor& a, const at::Tensor& b) {
  const double squared = b.dot(b).item<double>();
  return squared > 0 ? a.dot(b).item<double>() / squared : 0;
}

bool is_multiple_of(const at::Tensor& a, const at::Tensor& b) {
  const double factor = factor_between(a, b);
  return std::abs(factor) > kTolerance && distance(a, b * factor) < kTolerance;
}

/// Plain gradient descent: a step moves the parameters by exactly lr times the gradient.
OptimConfig plain_descent(double lr) {
  OptimConfig optim;
  optim.name = "sgd";
  optim.lr = lr;
  optim.momentum = 0;
  return optim;
}

/// What one step of all ranks did, as a gradient, beside what it should have been.
struct AuditedStep {
  at::Tensor applied, expected;   // [numel], float64
  at::Tensor share, sum_of_shares;
};

std::string worst_parameter(const AuditedStep& step, const Arena& layout) {
  const auto difference = compare_gradients(step.applied, step.expected, layout);
  const auto worst = std::max_element(difference.differences.begin(), difference.differences.end());
  return fmt::format("{} ({:.2g} of the largest gradient)", difference.parameters[static_cast<std::size_t>(worst - difference.differences.begin())],
                     *worst);
}

/// Collective. Lowest rank without whose samples the step would be what it was; -1: none.
std::int64_t missing_rank(World& world, const AuditedStep& step) {
  const at::Tensor without_me = step.sum_of_shares - step.share;
  const bool missing = largest(step.share) > 0 && is_multiple_of(step.applied, without_me) &&
                       factor_between(step.applied, without_me) > 0;
  const std::int64_t lowest = world.control().all_reduce(missing ? world.rank() : std::int64_t{world.size()}, ReduceOp::min);
  return lowest == world.size() ? -1 : lowest;
}

Finding explain(World& world, const AuditedStep& step, const at::Tensor& previous, const Arena& layout) {
  const std::int64_t missing = missing_rank(world, step);   // collective, so before any branch
  if (previous.defined() && is_multiple_of(step.applied - step.expected, previous)) {
    return {"gradients_accumulate", "The second step's gradient still holds the first step's: gradients are not set to zero between steps. "
                                    "Zero them at the start of each step."};
  }
  if (is_multiple_of(step.applied, step.sum_of_shares)) {
    const double factor = factor_between(step.applied, step.sum_of_shares);
    if (factor < 0) return {"wrong_sign", "A step goes along the gradient and not against it, so the loss rises: look at the optimizer's sign."};
    return {"gradient_scale", fmt::format("A step is {:.3g} times what the samples ask for: look at how gradients are divided by the number of "
                                          "samples or ranks.", factor)};
  }
  if (missing >= 0) {
    return {"ranks_disagree", fmt::format("The gradient of rank {} is missing from the sum: the step of {} ranks is the one that the other "
                                          "ranks' samples give. Look at that rank's part of the reduction.", missing, world.size())};
  }
  return {"ranks_disagree", fmt::format("The step that {} rank(s) make together is not the one that their samples ask for; it is off most in {}. "
                                        "`tugline verify` looks closer.", world.size(), worst_parameter(step, layout))};
}

}  // namespace

std::optional<Finding> check_two_steps(const GateSetup& setup, LoneRank& lone) {
  World& world = setup.world;
  lone.adopt_initial();
  // Rank 0's view decides for all, so that every rank takes the same way through the collectives below.
  double scale[2] = {largest(lone.gradient()), largest(flat_values(lone.learner().parameters()))};
  world.control().broadcast(scale, sizeof scale, 0);
  if (!(scale[0] > 0) || !std::isfinite(scale[0])) return std::nullopt;
  const double lr = 0.01 * std::max(scale[1], 1e-3) / scale[0];   // small, yet far above the parameters' rounding

  Attempt team(setup, plain_descent(lr), 2);
  Arena& parameters = team.learner().parameters();
  at::Tensor previous;
  for (int i = 0; i < 2; ++i) {
    lone.adopt(team.learner());
    const at::Tensor before = flat_values(parameters);
    if (!team.step().finite) return std::nullopt;
    AuditedStep step{(before - flat_values(parameters)) / lr, lone.gradient(), {}, {}};
    if (const auto rank = team.first_different_rank(); rank != 0) {
      return Finding{"ranks_disagree", fmt::format("After step {} rank {} holds other parameters than rank 0: the ranks did not make the same "
                                                   "step. Look at that rank's part of the reduction.", i + 1, rank)};
    }
    // Batch norm in local mode gives each rank a gradient of its own: then their sum is what to expect.
    step.share = lone.gradient_of_share(world.rank(), world.size());
    step.sum_of_shares = step.share.clone();
    world.control().all_reduce(step.sum_of_shares.data_ptr(), step.sum_of_shares.numel(), DType::float64);
    const bool good = distance(step.applied, step.expected) < kTolerance || distance(step.applied, step.sum_of_shares) < kTolerance;
    const bool all_good = world.control().all_reduce(std::int64_t{good}, ReduceOp::min) == 1;
    if (!all_good) {
      if (largest(step.applied) == 0) {
        return Finding{"no_update", "A step of the optimizer leaves every parameter as it was, although the gradient is not zero."};
      }
      return agree_on(world, explain(world, step, previous, parameters));
    }
    previous = step.applied;
  }
  return std::nullopt;
}

}  // namespace tugline
