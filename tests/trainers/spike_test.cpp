// SPDX-License-Identifier: Apache-2.0
// Gradients that are finite and out of line: found before anything moves, and whose they are.
#include "tugline/core/random.hpp"
#include "tugline/core/tasks/task.hpp"
#include "tugline/tests/support/task_wrapper.hpp"
#include "tugline/tests/trainers/trainer_lab.hpp"

namespace tugline {
namespace {

using testing::HasSubstr;

/// The loss of calls [from, to), counted from 0 on this rank, times `factor`.
struct Steep {
  std::int64_t from = -1, to = -1, calls = 0;
  double factor = 1e4;
};

class SteepTask final : public TaskWrapper {
 public:
  SteepTask(Steep& steep, const SampleSpec& spec) : TaskWrapper(make_task({}, spec)), steep_(steep) {}
  at::Tensor loss(const at::Tensor& output, const at::Tensor& target) const override {
    const at::Tensor sum = TaskWrapper::loss(output, target);
    const std::int64_t call = steep_.calls++;
    return call >= steep_.from && call < steep_.to ? sum * steep_.factor : sum;
  }

 private:
  Steep& steep_;
};

/// 40 steps, of which the detector judges the second half; its factor is far above what these small batches do by themselves.
class SpikeTest : public TrainerLab {
 protected:
  SpikeTest() {
    config_.train.epochs = 8;
    config_.train.eval_every = 100;
    config_.train.spike_factor = 20;
    config_.train.nonfinite = "retry";
    config_.model.activation = "gelu";   // has no gradients that are zero
    config_.model.dropout = 0.1;
    config_.optim.momentum = 0.9;
    config_.checkpoint.every_epochs = 0;
    config_.checkpoint.keep_best = false;
    config_.checkpoint.keep_last = 100;
    task_ = [this] { return std::make_unique<SteepTask>(steep_, data_.train->spec()); };
  }
  int last() const { return world_.size() - 1; }

  struct Flip {
    Fault fault;
    std::string parameter;
    std::int64_t step = 0;
  };
  /// The highest bit of an exponent, of the last rank's gradient in a step from `from` on: of one that is not that of an input that may be zero.
  Flip flip_from(std::int64_t from) {
    Learner learner(config_, models_, data_.train->spec(), world_);
    const auto& slots = learner.parameters().slots();
    std::uint64_t all = 0;
    for (const auto& slot : slots) all += static_cast<std::uint64_t>(slot.range.size());
    for (std::int64_t step = from;; ++step) {
      auto element = static_cast<std::int64_t>(Random(0, Purpose::fault, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(last())).below(all));
      auto slot = slots.begin();
      for (; element >= slot->range.size(); ++slot) element -= slot->range.size();
      if (slot != slots.begin()) return {parse_fault(fmt::format("flip_gradient:rank={},step={},bit=30", last(), step)), slot->name, step};
    }
  }
  /// What has happened in one run may happen in the next.
  Outcome train_anew(const Plan& plan) {
    world_.control().barrier();
    if (world_.rank() == 0) std::filesystem::remove(folder_ / "faults.log");
    world_.control().barrier();
    steep_.calls = 0;
    return train(plan);
  }
  std::string text_of_end(const Plan& plan) {
    try {
      train_anew(plan);
    } catch (const AgreedError& error) {
      return error.what();
    }
    return "";
  }
  std::string norms_in(const std::string& folder) const { return read_checkpoint(checkpoints(folder).path_of(40)).texts.at("gradient_norms"); }
  static boost::json::object spike_of(const Outcome& outcome) {
    for (const auto& [name, fields] : outcome.events) {
      if (name == "spike") return fields;
    }
    return {};
  }
  Steep steep_;
};

TEST_F(SpikeTest, AFlippedExponentMovesNoParameterAndItsRankIsNamed) {
  config_.train.nonfinite = "skip";
  const Flip flip = flip_from(24);
  std::vector<std::string> bits;
  const Outcome outcome = train({.after_step = [&](std::int64_t, Learner& learner) { bits.push_back(bits_of(learner)); }, .faults = {flip.fault}});
  ASSERT_EQ(bits.size(), 40U);
  for (std::int64_t step = 2; step <= 40; ++step) {
    EXPECT_EQ(bits[static_cast<std::size_t>(step - 1)] == bits[static_cast<std::size_t>(step - 2)], step == flip.step) << step;
  }
  EXPECT_TRUE(same_on_all_ranks(outcome.bits));
  const std::string where = fmt::format("rank {} has", last());
  EXPECT_THAT(outcome.warnings(), testing::ElementsAre(testing::AllOf(HasSubstr(fmt::format("step {}: the gradient norm is ", flip.step)), HasSubstr(" times the usual "), HasSubstr(where),
                                                                      HasSubstr("most in '" + flip.parameter + "'"), HasSubstr("its samples: "), HasSubstr("the step was skipped"))));
  const auto event = spike_of(outcome);
  EXPECT_EQ(event.at("step"), flip.step);
  EXPECT_EQ(event.at("rank"), last());
  EXPECT_EQ(event.at("parameter").as_string(), flip.parameter);
  EXPECT_EQ(event.at("next"), "skip");
  EXPECT_GT(event.at("norm").as_double(), 20 * event.at("usual").as_double());
}

struct Memory {
  const char* name;
  void (*configure)(RunConfig&);
};
void PrintTo(const Memory& memory, std::ostream* out) { *out << memory.name; }

class SpikeWherever : public SpikeTest, public testing::WithParamInterface<Memory> {};
INSTANTIATE_TEST_SUITE_P(, SpikeWherever,
                         testing::Values(Memory{"common", [](RunConfig&) {}}, Memory{"gradients", [](RunConfig& c) { c.parallel.shared_memory = "gradients"; }},
                                         Memory{"messages", [](RunConfig& c) { c.parallel.shared_memory = "off"; }},
                                         Memory{"micro_batches", [](RunConfig& c) { c.train.micro_batch = 1; }},
                                         Memory{"clipped", [](RunConfig& c) { c.optim.clip_norm = 0.5; }},
                                         Memory{"ring", [](RunConfig& c) {
                                                  c.parallel.shared_memory = "off";
                                                  c.parallel.all_reduce = "ring";
                                                }},
                                         Memory{"local", [](RunConfig& c) {
                                                  c.parallel.strategy = "local";
                                                  c.parallel.local.steps = 4;
                                                }}),
                         [](const auto& info) { return info.param.name; });

TEST_P(SpikeWherever, AFlipThatIsComputedAgainLeavesNoTrace) {
  GetParam().configure(config_);
  const Flip flip = flip_from(26);
  const Outcome clean = train({.folder = "clean"});
  EXPECT_THAT(clean.warnings(), testing::IsEmpty()) << "a false alarm";
  const Outcome flipped = train_anew({.folder = "flipped", .faults = {flip.fault}});
  EXPECT_TRUE(flipped.bits == clean.bits);
  EXPECT_THAT(flipped.warnings(), testing::ElementsAre(testing::AllOf(HasSubstr(fmt::format("step {}: ", flip.step)), HasSubstr(fmt::format("rank {} has", last())),
                                                                      HasSubstr("'" + flip.parameter + "'"), HasSubstr("computed again it was as usual"))));
  EXPECT_EQ(flipped.steps_of("spike"), std::vector<std::int64_t>{flip.step});
  if (world_.rank() == 0) {
    EXPECT_TRUE(norms_in("flipped") == norms_in("clean"));
  }
}

TEST_F(SpikeTest, ShardsAreJudgedAsTheyAreAddedUp) {
  if ((world_.size() & (world_.size() - 1)) != 0) GTEST_SKIP() << "for powers of two";
  config_.parallel.shards = 4;
  const Flip flip = flip_from(26);
  const Outcome clean = train({.folder = "clean"});
  EXPECT_TRUE(train_anew({.folder = "flipped", .faults = {flip.fault}}).bits == clean.bits);
}

TEST_F(SpikeTest, EndsTheRunWhereThatIsThePolicyAndTheSameCommandGoesOn) {
  const Outcome clean = train({.folder = "clean"});
  config_.train.nonfinite = "stop";
  const Flip flip = flip_from(25);
  const Plan plan{.folder = "ends", .faults = {flip.fault}};
  const std::string text = text_of_end(plan);
  EXPECT_THAT(text, testing::AllOf(HasSubstr(fmt::format("step {}: the gradient norm is ", flip.step)), HasSubstr(fmt::format("rank {} has", last())), HasSubstr("'" + flip.parameter + "'"),
                                   HasSubstr("a fault that passes"), HasSubstr("the same command repeats the step"), HasSubstr("train.spike_factor")));
  EXPECT_TRUE(same_on_all_ranks(text));
  EXPECT_EQ(checkpoints("ends").list().back().step, flip.step - 1);
  const Outcome rest = train({.folder = "ends", .resume = true, .faults = plan.faults});
  EXPECT_EQ(rest.steps.front().step, flip.step);
  EXPECT_TRUE(rest.bits == clean.bits);
}

TEST_F(SpikeTest, ASpikeThatComesAgainIsNoFaultThatPasses) {
  if (world_.rank() == last()) {
    steep_.from = 27;
    steep_.to = 29;   // at first, and once more
  }
  const std::string retried = text_of_end({.folder = "retried"});
  EXPECT_THAT(retried, testing::AllOf(HasSubstr("step 28: the gradient norm is "), HasSubstr(fmt::format("rank {} has", last())), HasSubstr("it was no better at first")));
  config_.train.nonfinite = "stop";
  const std::string stopped = text_of_end({.folder = "stopped"});
  EXPECT_THAT(stopped, testing::AllOf(HasSubstr("step 28: "), HasSubstr("the data's doing, or the model's")));
}

TEST_F(SpikeTest, ALevelThatStaysIsNoReasonToLeaveOutMore) {
  config_.train.nonfinite = "skip";
  config_.optim.clip_norm = 0.1;   // so that training survives it
  steep_.from = 25;
  steep_.to = 1000;
  config_.data.drop_last = true;   // a rank without samples in some steps would count other calls
  const Outcome outcome = train({});
  EXPECT_EQ(outcome.result.steps, 32);
  EXPECT_EQ(outcome.steps_of("spike"), (std::vector<std::int64_t>{26, 27, 28, 29, 30}));
  EXPECT_TRUE(same_on_all_ranks(outcome.bits));
}

/// What is usual is part of the run: it is not learned anew.
TEST_F(SpikeTest, StopAndResumeEqualsNeverStopping) {
  config_.train.nonfinite = "skip";
  const Flip flip = flip_from(26);
  const Outcome whole = train({.folder = "whole", .faults = {flip.fault}});
  ASSERT_EQ(whole.steps_of("spike").size(), 1U);
  const Outcome first = train_anew({.folder = "parts", .signal_at = 24, .faults = {flip.fault}});
  EXPECT_EQ(first.result.steps, 24);
  const Outcome rest = train({.folder = "parts", .resume = true, .faults = {flip.fault}});
  EXPECT_EQ(rest.steps_of("spike"), whole.steps_of("spike"));
  EXPECT_TRUE(rest.bits == whole.bits);
  if (world_.rank() == 0) {
    EXPECT_TRUE(norms_in("parts") == norms_in("whole"));
  }
}

TEST_F(SpikeTest, ChangesNothingWhereThereAreNoneAndCostsNothingWhenOff) {
  const Outcome looked = train({.folder = "on"});
  config_.train.spike_factor = 0;
  const Outcome off = train({.folder = "off"});
  EXPECT_TRUE(looked.bits == off.bits);
  EXPECT_TRUE(looked.steps.back().gradient_norm.has_value());
  EXPECT_FALSE(off.steps.back().gradient_norm.has_value());
  if (world_.rank() == 0) {
    EXPECT_FALSE(read_checkpoint(checkpoints("off").path_of(40)).texts.contains("gradient_norms"));
  }
}

/// An overflow in 16 bits is the scale's doing; a spike is not.
TEST_F(SpikeTest, ASpikeIsNoOverflow) {
  config_.train.precision = "fp16";
  Learner learner(config_, models_, data_.train->spec(), world_);
  StepFacts facts;
  facts.finite = false;
  facts.spike.emplace();
  const double scale = learner.loss_scale().value();
  EXPECT_FALSE(learner.overflowed(facts));
  EXPECT_EQ(learner.loss_scale().value(), scale);
  facts.spike.reset();
  EXPECT_TRUE(learner.overflowed(facts));
}

TEST_F(SpikeTest, BitsAreToldToTheFaultThatHasThem) {
  EXPECT_EQ(parse_fault("flip_gradient:rank=1,step=7,bit=30").bit, 30);
  EXPECT_EQ(parse_fault("flip_gradient:rank=1,step=7").bit, -1);
  for (const char* bad : {"flip:bit=3", "flip_gradient:bit=64", "flip_gradient:bit=-1"}) EXPECT_THROW(parse_fault(bad), UsageError) << bad;
}

}  // namespace
}  // namespace tugline
