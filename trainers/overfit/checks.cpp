// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/overfit/checks.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include "tugline/core/models/module_tensors.hpp"
#include "tugline/trainers/overfit/attempt.hpp"
#include "tugline/trainers/overfit/samples.hpp"
#include "tugline/trainers/verify/forward_trace.hpp"

namespace tugline {
namespace {

Finding non_finite_forward(const ForwardTrace& trace) {
  const auto seen = trace.first_non_finite();
  if (!seen) return {"non_finite", "The loss is not finite, although every output of the model is: look at the task's loss."};
  const std::string where = seen->parameter.empty() ? "before the first layer (look at the inputs)"
                                                    : fmt::format("in layer {}", layer_of(seen->parameter));
  return {"non_finite", fmt::format("{} first seen {}: operator {} produced it in the forward pass of the untrained model.",
                                    seen->nan ? "NaN" : "An infinity", where, seen->op)};
}

/// Names in the order in which forward uses them; what it never uses comes last.
std::vector<std::string> forward_order(const ForwardTrace& trace, torch::nn::Module& model) {
  std::vector<std::string> order = trace.order();
  for (const auto& named : named_parameters_of(model)) {
    if (std::find(order.begin(), order.end(), named.name) == order.end()) order.push_back(named.name);
  }
  return order;
}

Finding no_gradient(const std::vector<std::string>& without, const std::vector<std::string>& order, std::size_t used) {
  const std::string layer = layer_of(without.back());
  const auto position = static_cast<std::size_t>(std::find(order.begin(), order.end(), without.back()) - order.begin());
  std::string where;
  if (position >= used) {
    where = "forward() never uses it";
  } else if (position + 1 < used) {
    where = fmt::format("the graph is cut between it and {}: look for detach(), item(), data or NoGradGuard there",
                        layer_of(order[position + 1]));
  } else {
    where = "the graph is cut after it: look for detach(), item(), data, argmax() or NoGradGuard there";
  }
  return {"no_gradient", fmt::format("No gradient reaches layer {} ({}); {}. Freeze what is not meant to learn "
                                     "(requires_grad false).", layer, fmt::join(without, ", "), where)};
}

std::optional<Finding> check_graph(LoneRank& lone, const at::Tensor& loss, const ForwardTrace& trace) {
  std::unordered_map<std::string, at::Tensor> trainable;
  for (const auto& named : named_parameters_of(lone.learner().model())) {
    if (named.tensor.requires_grad()) trainable[named.name] = named.tensor;
  }
  std::vector<std::string> order = forward_order(trace, lone.learner().model());
  std::erase_if(order, [&](const std::string& name) { return !trainable.contains(name); });
  const auto used = static_cast<std::size_t>(
      std::count_if(trace.order().begin(), trace.order().end(), [&](const std::string& name) { return trainable.contains(name); }));
  if (order.empty()) return Finding{"no_gradient", "The model has no trainable parameter: every one is frozen."};
  if (!loss.requires_grad()) return no_gradient(order, order, used);

  std::vector<at::Tensor> inputs;
  for (const auto& name : order) inputs.push_back(trainable[name]);
  const auto gradients = torch::autograd::grad({loss}, inputs, {}, std::nullopt, false, /*allow_unused=*/true);
  std::vector<std::string> without;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (!gradients[i].defined()) without.push_back(order[i]);
  }
  if (!without.empty()) return no_gradient(without, order, used);
  for (std::size_t i = order.size(); i-- > 0;) {   // backward meets the last layer first
    if (gradients[i].isfinite().all().item<bool>()) continue;
    return Finding{"non_finite", fmt::format("NaN or infinity first seen in the gradient of layer {} ({}), although the loss is finite: "
                                             "look for sqrt, norm, log or a division at 0.", layer_of(order[i]), order[i])};
  }
  return std::nullopt;
}

/// Adds factor * direction to the parameters.
void move(Arena& arena, const at::Tensor& direction, double factor) {
  const torch::NoGradGuard no_grad;
  std::int64_t begin = 0;
  for (const auto& slot : arena.slots()) {
    if (!slot.parameter.requires_grad()) continue;
    at::Tensor values = arena.values(slot.range);
    values.add_(direction.narrow(0, begin, slot.range.size()).to(values.scalar_type()), factor);
    begin += slot.range.size();
  }
}

/// A small step against the gradient must lower the loss. Two step sizes, so that a steep valley is not taken for a wrong sign.
std::optional<Finding> check_sign(LoneRank& lone) {
  lone.adopt_initial();
  const double before = lone.objective();
  if (before < -1e-6) {
    return Finding{"wrong_sign", fmt::format("The loss is {:.3g} before training. The gate asks for a loss that falls to a value above zero; "
                                             "cross entropy and squared error are never negative: look at the loss's sign.", before)};
  }
  const at::Tensor gradient = lone.gradient();
  const double squared = gradient.square().sum().item<double>();
  if (!(squared > 0) || !std::isfinite(squared) || before < 1e-6) return std::nullopt;
  double least_rise = std::numeric_limits<double>::infinity();
  for (const double part : {1e-2, 1e-3}) {
    lone.adopt_initial();
    move(lone.learner().parameters(), gradient, -part * before / squared);
    least_rise = std::min(least_rise, (lone.objective() - before) / (part * before));
  }
  lone.adopt_initial();
  if (least_rise < 0.5) return std::nullopt;
  return Finding{"wrong_sign", "A small step against the gradient makes the loss rise: the loss that is trained has the opposite sign of the one "
                               "that is evaluated. Return the loss itself, not its negative."};
}

}  // namespace

std::optional<Finding> agree_on(World& world, const std::optional<Finding>& mine) {
  Communicator& control = world.control();
  const std::int64_t lowest = control.all_reduce(mine ? world.rank() : std::int64_t{world.size()}, ReduceOp::min);
  if (lowest == world.size()) return std::nullopt;
  const auto have = control.all_reduce(std::int64_t{mine.has_value()}, ReduceOp::sum);
  Finding agreed;
  agreed.reason = control.broadcast(mine ? mine->reason : "", static_cast<int>(lowest));
  agreed.explanation = control.broadcast(mine ? mine->explanation : "", static_cast<int>(lowest));
  if (have < world.size()) agreed.explanation += fmt::format(" (Seen on {} of {} ranks, first on rank {}.)", have, world.size(), lowest);
  return agreed;
}

std::optional<Finding> check_samples(const GateSetup& setup) {
  std::optional<Finding> changing;
  agree(setup.world.control(), [&] { changing = find_changing_samples(*setup.samples); });
  if (auto found = agree_on(setup.world, changing)) return found;
  const auto all = setup.world.control().all_gather(std::to_string(digest_of_samples(*setup.samples)));
  const auto other = std::find_if(all.begin(), all.end(), [&](const std::string& value) { return value != all.front(); });
  if (other == all.end()) return std::nullopt;
  return Finding{"ranks_disagree", fmt::format("Rank {} reads other samples than rank 0: every rank must see the same data.",
                                               other - all.begin())};
}

std::optional<Finding> check_first_pass(LoneRank& lone) {
  Learner& learner = lone.learner();
  learner.model().train();
  {
    const ForwardTrace trace(learner.parameters());
    const at::Tensor output = learner.forward(lone.batch().input);
    const at::Tensor loss = learner.task().loss(output, lone.batch().target);
    const double value = loss.item<double>();
    if (!std::isfinite(value)) return non_finite_forward(trace);
    const double again = learner.task().loss(output, lone.batch().target).item<double>();
    if (std::abs(value - again) > 1e-6 * std::abs(value)) {
      return Finding{"labels_change", fmt::format("The loss of the same outputs and targets is {:.4g} once and {:.4g} the next time: the task "
                                                  "redraws labels or weights. It must be a fixed function.", value, again)};
    }
    if (auto found = check_graph(lone, loss, trace)) return found;
  }
  return check_sign(lone);
}

}  // namespace tugline
