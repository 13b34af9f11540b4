// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/bad_steps.hpp"

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/metrics/sink.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/nonfinite.hpp"

namespace tugline {
namespace {

constexpr int kMostInARow = 10;

std::string what_is_not_finite(int rank) { return rank >= 0 ? fmt::format("the loss on rank {}", rank) : "the gradient"; }

}  // namespace

BadSteps::BadSteps(World& world, const TrainConfig& config, Learner& learner, Loader& loader, std::shared_ptr<const SampleOrder> order, RunLog& log)
    : world_(world), learner_(learner), loader_(loader), order_(std::move(order)), log_(log), retries_(config.nonfinite == "retry"),
      spikes_(config.spike_factor > 0 ? std::make_shared<SpikeDetector>(config.spike_factor) : nullptr) {}

void BadSteps::tried(const Piece& piece, const StepFacts& facts, std::string_view next) {
  spike_.reset();
  if (!facts.spike) return;
  spike_ = find_spike(*facts.spike, learner_, *order_, piece, world_);
  auto fields = spike_->fields();
  fields["step"] = piece.step + 1;
  fields["next"] = next;
  log_.event("spike", fields);
}

std::string BadSteps::passed(const Piece& piece) const {
  if (!spike_) return fmt::format("step {}: not finite at first, and finite when computed again", piece.step + 1);
  return fmt::format("step {}: {}; computed again it was as usual", piece.step + 1, spike_->sentence());
}

std::string BadSteps::explain(const Piece& piece, const StepFacts& facts) {
  const std::string step = fmt::format("step {}: ", piece.step + 1);
  if (spike_) {
    const std::string text = step + spike_->sentence();
    if (retries_) return text + "; it was no better at first";
    if (spike_->rank < 0) return text;
    const double again = part_again(*spike_, *facts.spike, learner_, loader_, piece, world_);
    return fmt::format("{}; computed again that is {:.3g}: {}", text, again,
                       again < spike_->part / 2 ? "a fault that passes, of the hardware perhaps" : "the data's doing, or the model's");
  }
  const NonfiniteCause cause = facts.alone ? find_nonfinite_here(learner_, loader_, *order_, piece, world_.rank())
                                           : find_nonfinite(learner_, loader_, *order_, piece, world_);
  log_.event("nonfinite", {{"step", piece.step + 1}, {"rank", cause.rank}, {"loss", cause.loss}, {"parameter", cause.parameter},
                           {"samples", boost::json::array(cause.samples.begin(), cause.samples.end())}});
  return fmt::format("{}{} is not finite: {}", step, what_is_not_finite(facts.nonfinite_rank), cause.sentence());
}

const char* BadSteps::advice() const {
  return spike_ ? "lower optim.lr, raise train.spike_factor where such norms are right, or see train.nonfinite"
                : "lower optim.lr, set optim.clip_norm, or see train.nonfinite";
}

std::optional<std::string> BadSteps::over(const GlobalStep& step) {
  if (step.finite) {
    if (!hopeless()) in_a_row_ = 0;   // once it is, steps that were under way change nothing
    spike_.reset();
    return std::nullopt;
  }
  if (!hopeless()) {
    last_rank_ = step.nonfinite_rank;
    last_step_ = step.piece.step + 1;
    ++in_a_row_;
  }
  return fmt::format("step {}: {}; {} was skipped", step.piece.step + 1, spike_ ? spike_->sentence() : what_is_not_finite(step.nonfinite_rank) + " is not finite",
                     step.staleness ? "its piece" : "the step");
}

bool BadSteps::hopeless() const { return in_a_row_ >= kMostInARow; }

std::string BadSteps::why_hopeless() const {
  return fmt::format("{} for {} steps in a row, the last is step {}; lower optim.lr or set optim.clip_norm, and try `tugline overfit` on this config",
                     spike_ ? "the gradient was out of line" : what_is_not_finite(last_rank_) + " was not finite", in_a_row_, last_step_);
}

}  // namespace tugline
