// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/overfit/attempt.hpp"

#include <algorithm>

#include <torch/torch.h>

#include "tugline/core/data/fingerprint.hpp"
#include "tugline/parallel/replicas.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/trainers/verify/dropout.hpp"
#include "tugline/trainers/verify/mean_gradient.hpp"

namespace tugline {
namespace {

RunConfig with_optim(RunConfig config, const OptimConfig& optim) {
  config.optim = optim;
  return config;
}

std::unique_ptr<Task> make_task(const GateSetup& setup) { return setup.parts.task ? setup.parts.task() : nullptr; }

std::shared_ptr<const SampleOrder> in_order(const Dataset& samples) {
  return std::make_shared<SampleOrder>(samples.size(), 0, false);
}

std::vector<at::Tensor> copies(const Arena& arena) {
  std::vector<at::Tensor> result;
  for (const auto& flat : arena.flats()) result.push_back(flat.values.clone());
  return result;
}

void restore(const std::vector<at::Tensor>& from, Arena& to) {
  const torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < from.size(); ++i) at::Tensor(to.flats()[i].values).copy_(from[i]);
}

}  // namespace

Attempt::Attempt(const GateSetup& setup, const OptimConfig& optim, std::int64_t max_steps)
    : setup_(setup),
      learner_(with_optim(setup.config, optim), setup.models, setup.samples->spec(), setup.world, make_task(setup)),
      loader_(setup.samples, in_order(*setup.samples), nullptr, 0, LoaderOptions{.threads = 0, .augment = false}) {
  turn_off_dropout(learner_.model());
  const StepPlan plan = setup.plan(max_steps);
  const Schedule schedule(optim, {plan.total_steps, plan.steps_per_epoch(), plan.global_batch});
  const OverfitParts::StrategyNeeds needs{setup.world, learner_, schedule, plan, {optim.clip_norm, optim.clip_value, 0, learner_.node(), learner_.exchange()}};
  strategy_ = setup.parts.strategy
                  ? setup.parts.strategy(needs)
                  : std::make_unique<SyncStrategy>(learner_.gradients(), setup.world.control(), learner_.parameters(),
                                                   learner_.optimizer(), schedule, plan, needs.options);
}

StepFacts Attempt::step() {
  const Piece piece = strategy_->next_piece().value();
  ++steps_;
  StepFacts facts;
  do {
    strategy_->begin_step(learner_.backwards(piece), learner_.nominal_weight(piece));
    facts = strategy_->finish_step(learner_.compute_gradients(loader_, piece));
  } while (learner_.overflowed(facts));
  return facts;
}

Evaluation Attempt::evaluate() {
  average_values(setup_.world.communicator(), learner_.buffers());
  return tugline::evaluate(learner_, setup_.samples, setup_.config.train.eval_batch, setup_.world);
}

std::int64_t Attempt::first_different_rank() {
  std::uint64_t mine = 0;
  for (const auto& flat : learner_.parameters().flats()) {
    const at::Tensor values = flat.values.cpu();
    mine = digest(std::span(static_cast<const std::byte*>(values.data_ptr()), values.nbytes()), mine);
  }
  const auto all = setup_.world.control().all_gather(std::to_string(mine));
  const auto other = std::find_if(all.begin(), all.end(), [&](const std::string& value) { return value != all.front(); });
  return other == all.end() ? 0 : other - all.begin();
}

LoneRank::LoneRank(const GateSetup& setup)
    : setup_(setup),
      solo_(solo_communicator()),
      learner_(setup.config, setup.models, setup.samples->spec(), solo_, make_task(setup)),
      loader_(setup.samples, in_order(*setup.samples), nullptr, 0, LoaderOptions{.threads = 0, .augment = false}),
      batch_(learner_.to_device(loader_.take(0, 0, setup.samples->size()))),
      initial_(copies(learner_.parameters())),
      initial_buffers_(copies(learner_.buffers())) {
  turn_off_dropout(learner_.model());
}

at::Tensor LoneRank::gradient() { return mean_gradient(learner_, solo_, loader_, setup_.plan(1), 0); }

at::Tensor LoneRank::gradient_of_share(int rank, int size) {
  const Piece piece = equal_share(setup_.plan(1).global_piece(0), rank, size);
  learner_.parameters().rebind();
  learner_.parameters().zero_gradients();
  learner_.compute_gradients(loader_, piece);
  const double exact = learner_.task().weight(batch_.target);
  return flat_gradients(learner_.parameters()) * (learner_.nominal_weight(piece) / exact);
}

void LoneRank::adopt(Learner& other) {
  copy_values(other.parameters(), learner_.parameters());
  copy_values(other.buffers(), learner_.buffers());
}

void LoneRank::adopt_initial() {
  restore(initial_, learner_.parameters());
  restore(initial_buffers_, learner_.buffers());
}

at::Tensor LoneRank::outputs(bool training) {
  const torch::NoGradGuard no_grad;
  learner_.model().train(training);
  return learner_.forward(batch_.input);
}

double LoneRank::objective() {
  const EvalSums sums = learner_.task().evaluate(outputs(true), batch_.target);
  return sums.loss / sums.weight;
}

}  // namespace tugline
