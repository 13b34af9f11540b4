// SPDX-License-Identifier: Apache-2.0
// Evaluation is exact: the same bits on any number of ranks, and every sample once.
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/tests/trainers/trainer_lab.hpp"

namespace tugline {
namespace {

struct Split {
  std::int64_t samples, block;
};
class EverySplit : public TrainerLab, public testing::WithParamInterface<Split> {};
INSTANTIATE_TEST_SUITE_P(, EverySplit,
                         testing::Values(Split{23, 4}, Split{23, 1}, Split{23, 256}, Split{3, 256}, Split{3, 1}, Split{1, 1}),
                         [](const auto& info) { return fmt::format("{}_samples_by_{}", info.param.samples, info.param.block); });

TEST_P(EverySplit, GivesTheSameBitsOnAnyNumberOfRanksAndReadsNoSampleTwice) {
  const auto [samples, block] = GetParam();
  const auto split = first_of(data_.train, samples);
  World solo{solo_communicator()};
  Learner alone(config_, models_, split->spec(), solo);
  const Evaluation wanted = evaluate(alone, split, block, solo);
  EXPECT_EQ(wanted.samples, samples);

  for (int ranks = 1; ranks <= world_.size(); ++ranks) {
    SCOPED_TRACE(ranks);
    const auto team = first_ranks(ranks);
    if (!team) continue;
    const auto recorded = std::make_shared<RecordedDataset>(split);
    Learner learner(config_, models_, split->spec(), *team);
    const Evaluation result = evaluate(learner, recorded, block, *team);
    EXPECT_EQ(result.samples, samples);
    EXPECT_EQ(result.loss, wanted.loss);
    EXPECT_EQ(result.accuracy, wanted.accuracy);
    EXPECT_THAT(recorded->counts(team->control()), testing::Each(1));

    std::vector<double> speeds(static_cast<std::size_t>(ranks), 1);
    speeds[0] = 0.3;
    const auto again = std::make_shared<RecordedDataset>(split);
    EXPECT_EQ(evaluate(learner, again, block, *team, speeds).loss, wanted.loss);
    EXPECT_THAT(again->counts(team->control()), testing::Each(1));
  }
}

TEST_F(TrainerLab, EvaluationIsTheMeanOverTheSplit) {
  Learner learner(config_, models_, data_.train->spec(), world_);
  Loader loader(data_.train, std::make_shared<SampleOrder>(kSamples, 0, false), nullptr, 0, LoaderOptions{.threads = 0});
  const Batch all = loader.take(0, 0, kSamples);
  torch::NoGradGuard no_grad;
  const at::Tensor output = learner.forward(all.input);
  const double loss = torch::nn::functional::cross_entropy(output, all.target).item<double>();
  const double right = output.argmax(1).eq(all.target).sum().item<double>();
  const Evaluation result = evaluate(learner, data_.train, 4, world_);
  EXPECT_NEAR(result.loss, loss, 1e-6);
  EXPECT_TRUE(result.has_accuracy);
  EXPECT_EQ(result.accuracy, right / kSamples);
}

TEST_F(TrainerLab, EvaluationLeavesTheModelInItsModeAndItsStatisticsAlone) {
  config_.model.name = "convnet";
  config_.model.norm = "batch";
  Learner learner(config_, models_, data_.train->spec(), world_);
  learner.model().train();
  const std::string before = bits_of(learner);
  evaluate(learner, data_.train, 4, world_);
  EXPECT_TRUE(bits_of(learner) == before);
  EXPECT_TRUE(learner.model().is_training());
}

/// A data set that cannot be read, on the ranks that come to sample `bad`.
class Unreadable final : public Dataset {
 public:
  Unreadable(std::shared_ptr<const Dataset> base, std::int64_t bad) : base_(std::move(base)), bad_(bad) {}
  const SampleSpec& spec() const override { return base_->spec(); }
  std::int64_t size() const override { return base_->size(); }
  std::uint64_t fingerprint() const override { return 0; }
  void read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const override {
    if (index == bad_) throw DataError("record 9 is damaged");
    base_->read(index, input, target);
  }

 private:
  std::shared_ptr<const Dataset> base_;
  std::int64_t bad_;
};

TEST_F(TrainerLab, AnUnreadableSampleEndsEvaluationOnEveryRankAlike) {
  Learner learner(config_, models_, data_.train->spec(), world_);
  std::string text;
  try {
    evaluate(learner, std::make_shared<Unreadable>(data_.train, 9), 4, world_);
  } catch (const AgreedError& error) {
    text = error.what();
    EXPECT_EQ(error.exit_code(), ExitCode::bad_data);
  }
  EXPECT_EQ(text, "record 9 is damaged");
  EXPECT_TRUE(same_on_all_ranks(text));
}

}  // namespace
}  // namespace tugline
