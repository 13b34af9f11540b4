// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/verify/mean_gradient.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <torch/torch.h>

#include "tugline/core/error.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/learner.hpp"

namespace tugline {
namespace {

/// Finishes the gradient and leaves the parameters alone.
class KeepGradient final : public Optimizer {
 public:
  explicit KeepGradient(Arena& arena) : arena_(arena) {}
  bool elementwise() const override { return true; }
  void step(const Range& range, int, const Update& update) override {
    if (update.grad_scale != 1) arena_.gradients(range).mul_(update.grad_scale);
  }
  std::vector<SlotBuffer>& slots() override { return none_; }

 private:
  Arena& arena_;
  std::vector<SlotBuffer> none_;
};

template <typename Part>
at::Tensor flatten(const Arena& arena, Part part) {
  std::vector<at::Tensor> parts;
  for (const auto& slot : arena.slots()) {
    if (slot.parameter.requires_grad()) parts.push_back(part(slot).to(at::kCPU, at::kDouble));
  }
  return parts.empty() ? at::zeros({0}, at::kDouble) : at::cat(parts);
}

}  // namespace

at::Tensor mean_gradient(Learner& learner, World& world, Loader& loader, const StepPlan& plan, std::int64_t step,
                         std::shared_ptr<ShareRule> shares) {
  KeepGradient keep(learner.parameters());
  StepPlan until_here = plan;
  until_here.total_steps = step + 1;
  const Schedule schedule(OptimConfig{}, {until_here.total_steps, plan.steps_per_epoch(), plan.global_batch});
  SyncOptions options;
  options.shares = std::move(shares);
  options.first_step = step;
  options.node = learner.node();
  options.shards = learner.shards();
  options.exchange.ring = learner.exchange().ring;   // unrounded: what is compared here is who adds up what
  SyncStrategy strategy(learner.gradients(), world.control(), learner.parameters(), keep, schedule, until_here, options);
  const Piece piece = *strategy.next_piece();
  StepFacts facts;
  do {
    strategy.begin_step(learner.backwards(piece), learner.nominal_weight(piece));
    facts = strategy.finish_step(learner.compute_gradients(loader, piece));
  } while (learner.overflowed(facts));
  return flat_gradients(learner.parameters());
}

at::Tensor flat_gradients(const Arena& arena) {
  return flatten(arena, [&](const Arena::Slot& slot) { return arena.gradients(slot.range); });
}

at::Tensor flat_values(const Arena& arena) {
  return flatten(arena, [&](const Arena::Slot& slot) { return arena.values(slot.range); });
}

void copy_values(const Arena& from, Arena& to) {
  const torch::NoGradGuard no_grad;
  if (from.flats().size() != to.flats().size()) throw Error("two models of one config have different parameters");
  for (std::size_t i = 0; i < from.flats().size(); ++i) {
    at::Tensor target = to.flats()[i].values;
    target.copy_(from.flats()[i].values);
  }
}

double GradientDifference::worst() const {
  return differences.empty() ? 0 : *std::max_element(differences.begin(), differences.end());
}

GradientDifference compare_gradients(const at::Tensor& gradient, const at::Tensor& reference, const Arena& layout) {
  GradientDifference result;
  const auto largest = [](const at::Tensor& values) { return values.numel() == 0 ? 0.0 : values.abs().max().item<double>(); };
  result.largest_gradient = largest(reference);
  std::int64_t begin = 0;
  for (const auto& slot : layout.slots()) {
    if (!slot.parameter.requires_grad()) continue;
    const std::int64_t count = slot.parameter.numel();
    double difference = largest(gradient.narrow(0, begin, count) - reference.narrow(0, begin, count));
    if (difference > 0) difference /= result.largest_gradient;   // a zero reference: infinity
    result.parameters.push_back(slot.name);
    result.differences.push_back(std::isfinite(difference) ? difference : std::numeric_limits<double>::infinity());
    begin += count;
  }
  return result;
}

void take_worst_of_ranks(GradientDifference& difference, Communicator& control) {
  // What is done next depends on both, so all ranks must hold the same; the largest of NaN and a number is anybody's guess.
  const auto comparable = [](double value) { return std::isnan(value) ? std::numeric_limits<double>::infinity() : value; };
  difference.largest_gradient = control.all_reduce(comparable(difference.largest_gradient), ReduceOp::max);
  for (double& value : difference.differences) value = comparable(value);
  control.all_reduce(difference.differences.data(), static_cast<std::int64_t>(difference.differences.size()), DType::float64,
                     ReduceOp::max);
}

}  // namespace tugline
