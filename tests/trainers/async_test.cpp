// SPDX-License-Identifier: Apache-2.0
// Asynchronous training: what a bound of 0 computes, what a record repeats, and everything that needs one state for all ranks.
#include "tugline/core/optim/schedule.hpp"
#include "tugline/core/state/bucket_hooks.hpp"
#include "tugline/parallel/threads/thread_team.hpp"
#include "tugline/tests/trainers/trainer_lab.hpp"
#include "tugline/trainers/prepare.hpp"
#include "tugline/trainers/run/run_directory.hpp"

namespace tugline {
namespace {

class AsyncTest : public TrainerLab {
 protected:
  AsyncTest() {
    config_.parallel.strategy = "async";
    config_.optim.momentum = 0.9;
    config_.parallel.check_every = 7;
    config_.checkpoint.keep_last = 100;
    config_.checkpoint.keep_best = false;
  }
  /// An attempt whose record is in the run's folder, as the train command leaves it.
  Outcome record(Plan plan) {
    std::filesystem::create_directories(folder_ / plan.folder);
    plan.record_update = [file = RunPaths(folder_ / plan.folder).updates()](const std::string& line) { std::ofstream(file, std::ios::app) << line; };
    Outcome outcome = train(plan);
    world_.control().barrier();
    return outcome;
  }
  Outcome repeat(const std::string& folder) {
    config_.parallel.async.replay = folder_ / folder;
    Outcome outcome = train({.folder = folder + "-again"});
    config_.parallel.async.replay.clear();
    return outcome;
  }
  std::string oracle(const std::string& folder);
  static Staleness all_of(const Outcome& outcome) {
    Staleness all;
    for (const auto& record : outcome.steps) all.add(*record.staleness);
    return all;
  }
};

/// A run in one process from its record alone: each gradient where the record says that it was computed, each update from what it says.
class Oracle {
 public:
  Oracle(const RunConfig& config, const ModelRegistry& models, const DataSplits& data, const RecordedUpdates& recorded)
      : config_(config), recorded_(recorded), plan_(make_plan(config, data.train->size())), world_(solo_communicator()),
        learner_(config, models, data.train->spec(), world_), arena_(learner_.parameters()), values_(arena_.like("values")),
        optimizer_(make_optimizer(config.optim, arena_, values_)), hooks_(arena_, [](int) {}),
        schedule_(config.optim, {plan_.total_steps, plan_.steps_per_epoch(), config.data.batch}),
        loader_(data.train, std::make_shared<SampleOrder>(data.train->size(), config.seed, config.data.shuffle), &config.data.augment, config.seed,
                LoaderOptions{.threads = 0}) {
    const torch::NoGradGuard no_grad;
    for (std::size_t f = 0; f < values_.size(); ++f) values_[f].copy_(arena_.flats()[f].values);
    for (const auto& bucket : arena_.buckets()) versions_.push_back({view(values_, bucket.range).clone()});
    pieces_applied_.resize(versions_.size());
  }
  /// Whatever can be done is done, until nothing is left. Bits of parameters and slots.
  std::string run() {
    bool moved = true;
    while (moved) {
      moved = false;
      for (const auto& [number, record] : recorded_.pieces) {
        if (gradients_.count(number) == 0 && can_compute(record)) moved = true, compute(record);
      }
      for (std::size_t r = 0; r < versions_.size(); ++r) moved = apply_next(r) || moved;
    }
    EXPECT_EQ(gradients_.size(), recorded_.pieces.size());
    std::string bits;
    const auto add = [&](const at::Tensor& flat) { bits.append(static_cast<const char*>(flat.data_ptr()), flat.nbytes()); };
    for (const auto& flat : values_) add(flat);
    for (const auto& slot : optimizer_->slots()) {
      for (const auto& flat : slot.buffers) add(flat);
    }
    return bits;
  }

 private:
  struct Gradient {
    std::vector<at::Tensor> flats;
    Piece piece;
    double weight = 0, nominal = 0;
  };
  static at::Tensor view(const std::vector<at::Tensor>& flats, const Range& range) {
    return flats[static_cast<std::size_t>(range.buffer)].narrow(0, range.begin, range.size());
  }
  bool can_compute(const PieceRecord& record) const {
    for (std::size_t r = 0; r < versions_.size(); ++r) {
      if (record.read[r] >= versions_[r].size()) return false;
    }
    return true;
  }
  void compute(const PieceRecord& record) {
    {
      const torch::NoGradGuard no_grad;
      for (std::size_t r = 0; r < versions_.size(); ++r) arena_.values(arena_.buckets()[r].range).copy_(versions_[r][record.read[r]]);
    }
    const int parts = recorded_.pieces_per_step;
    Gradient& gradient = gradients_[record.piece];
    gradient.piece = equal_share(plan_.global_piece(record.piece / parts), static_cast<int>(record.piece % parts), parts);
    gradient.nominal = learner_.nominal_weight(gradient.piece);
    for (std::int64_t part = 0; part < recorded_.local_steps; ++part) {
      Piece piece = gradient.piece;
      piece.begin += gradient.piece.size() * part / recorded_.local_steps;
      piece.end = gradient.piece.begin + gradient.piece.size() * (part + 1) / recorded_.local_steps;
      hooks_.arm(learner_.backwards(piece));
      gradient.weight += learner_.compute_gradients(loader_, piece).weight;
      hooks_.finish();
      const torch::NoGradGuard no_grad;
      for (std::size_t f = 0; f < arena_.flats().size(); ++f) {
        const Arena::Flat& flat = arena_.flats()[f];
        part == 0 ? gradient.flats.push_back(flat.gradients.clone()) : (void)gradient.flats[f].add_(flat.gradients);
        at::Tensor(flat.values).sub_(flat.gradients, schedule_.lr(piece.step));
      }
    }
  }
  bool apply_next(std::size_t r) {
    const auto next = static_cast<std::uint32_t>(versions_[r].size());
    std::vector<const Gradient*> parts;
    std::int64_t step = 0;
    std::uint32_t staleness = 0;
    for (const auto& [number, record] : recorded_.pieces) {
      if (record.applied[r] != next) continue;
      if (gradients_.count(number) == 0) return false;
      parts.push_back(&gradients_.at(number));
      step = std::max(step, parts.back()->piece.step);
      staleness = std::max(staleness, next - 1 - record.read[r]);
    }
    if (parts.empty()) return false;
    const torch::NoGradGuard no_grad;
    const Range& range = arena_.buckets()[r].range;
    at::Tensor sum = arena_.gradients(range);
    std::map<std::int64_t, std::pair<std::int64_t, std::int64_t>> samples;
    double weight = 0, fraction = 0;
    for (const Gradient* part : parts) {
      part == parts.front() ? sum.copy_(view(part->flats, range)) : sum.add_(view(part->flats, range));
      weight += part->weight;
      samples[part->piece.step].first += part->piece.size();
      samples[part->piece.step].second = part->piece.global_size();
    }
    for (const auto& [of, count] : samples) fraction += static_cast<double>(count.first) / static_cast<double>(count.second);
    pieces_applied_[r] += std::ssize(parts);
    if (weight > 0) {
      const bool whole = samples.size() == 1 && std::ssize(parts) == recorded_.pieces_per_step;
      double lr = schedule_.lr(step);
      const double power = config_.parallel.async.staleness_power;
      if (power > 0) lr /= std::pow(std::max(1.0, (1.0 + static_cast<double>(staleness)) / recorded_.pieces_per_step), power);
      const Update update{.lr = lr, .number = static_cast<double>(pieces_applied_[r]) / recorded_.pieces_per_step, .first = next == 1,
                          .grad_scale = whole ? parts.front()->nominal / weight : 1 / fraction, .fraction = fraction};
      for (const auto& segment : arena_.segments()) {
        if (segment.bucket == static_cast<int>(r)) optimizer_->step(segment.range, segment.group, update);
      }
    }
    versions_[r].push_back(view(values_, range).clone());
    return true;
  }

  const RunConfig& config_;
  const RecordedUpdates& recorded_;
  StepPlan plan_;
  World world_;
  Learner learner_;
  Arena& arena_;
  std::vector<at::Tensor> values_;
  std::unique_ptr<Optimizer> optimizer_;
  BucketHooks hooks_;
  Schedule schedule_;
  Loader loader_;
  std::vector<std::vector<at::Tensor>> versions_;   // per range
  std::vector<std::int64_t> pieces_applied_;        // per range
  std::map<std::int64_t, Gradient> gradients_;      // by piece
};

std::string AsyncTest::oracle(const std::string& folder) {
  config_.parallel.async.replay = folder_ / folder;
  const auto recorded = read_run_updates(config_, world_);
  config_.parallel.async.replay.clear();
  return Oracle(config_, models_, data_, *recorded).run();
}

TEST_F(AsyncTest, ABoundOfZeroIsSynchronousTrainingToTheBit) {
  config_.parallel.async.staleness = 0;
  config_.train.epochs = 40;   // 200 steps
  config_.train.eval_every = 10;
  config_.optim.clip_value = 0.4;
  for (const std::string optimizer : {"sgd", "adamw"}) {
    config_.optim.name = optimizer;
    config_.optim.lr = optimizer == "sgd" ? 0.05 : 0.003;
    config_.parallel.strategy = "async";
    const Outcome async = train({.folder = optimizer + "async"});
    config_.parallel.strategy = "sync";
    const Outcome sync = train({.folder = optimizer + "sync"});
    // Hosts add up their own gradients first, where there are more.
    const bool one_order = world_.num_hosts() == 1 || world_.size() == 2;
    EXPECT_TRUE(async.bits == sync.bits || !one_order) << optimizer;
    ASSERT_EQ(async.steps.size(), 200u);
    for (std::size_t i = 0; i < 200; ++i) {
      EXPECT_NEAR(async.steps[i].loss, sync.steps[i].loss, one_order ? 0 : 1e-3) << i;
      EXPECT_EQ(async.steps[i].staleness->largest(), 0) << i;
    }
  }
}

TEST_F(AsyncTest, ARecordRepeatsTheRunToTheBitAndSoDoesOneProcess) {
  for (const std::string optimizer : {"sgd", "adamw", "adagrad"}) {
    for (const std::int64_t bound : {-1, 1, 2, 5}) {
      config_.optim.name = optimizer;
      config_.optim.lr = optimizer == "sgd" ? 0.05 : 0.003;
      config_.parallel.async.staleness = bound < 0 ? std::nullopt : std::optional(bound);
      config_.parallel.async.pieces = bound == 5 ? std::max(1, world_.size() - 1) : 0;
      config_.parallel.async.staleness_power = bound == 5 ? 1 : 0;   // with fewer pieces than ranks
      config_.optim.weight_decay = bound == 5 ? 0.01 : 0;   // parameter groups
      config_.train.precision = bound == 1 ? "float64" : "float32";
      config_.task.class_weights = std::vector<double>(bound == 1 ? 10 : 0, 1);
      if (bound == 1) config_.task.class_weights[3] = 9;
      const std::string name = fmt::format("{}{}", optimizer, bound);
      const Outcome once = record({.folder = name});
      EXPECT_TRUE(repeat(name).bits == once.bits) << name;
      EXPECT_TRUE(oracle(name) == once.bits) << name;
      if (bound > 0) {
        EXPECT_LE(all_of(once).largest(), bound) << name;
      }
    }
  }
}

/// Ranks that keep the parameters for the others change who computes, and nothing else.
TEST_F(AsyncTest, ServersComputeNothing) {
  config_.train.epochs = 4;
  const auto refused = [&](std::int64_t servers, const std::string& why) {
    config_.parallel.async.servers = servers;
    try {
      train({.folder = "refused"});
      ADD_FAILURE() << servers;
    } catch (const AgreedError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(why));
    }
  };
  refused(world_.size(), "at least one must compute");
  config_.parallel.async.local_steps = config_.data.batch / world_.size() + 1;
  refused(0, "too small for so many parts");
  config_.parallel.async.local_steps = 1;
  if (world_.num_hosts() == 1) {
    if (world_.size() > 1) refused(1, "need no server");
    return;
  }
  if (world_.size() > 2) {   // servers on both hosts, and one range
    const double cut = std::exchange(config_.parallel.bucket_mib, 0);
    refused(world_.size() - 1, "would keep none of the 1 ranges");
    config_.parallel.bucket_mib = cut;
  }
  for (int servers = 1; servers < world_.size(); ++servers) {
    for (const std::int64_t bound : {0, 2}) {
      config_.parallel.async.servers = servers;
      config_.parallel.async.staleness = bound;
      config_.parallel.async.pieces = bound == 0 ? 0 : 5;
      const std::string name = fmt::format("{}servers{}", servers, bound);
      const Outcome once = record({.folder = name});
      EXPECT_TRUE(repeat(name).bits == once.bits) << name;
      EXPECT_TRUE(oracle(name) == once.bits) << name;
      EXPECT_LT(once.result.train.loss, once.steps.front().loss) << name;
      for (const auto& step : once.steps) {
        for (int rank = world_.size() - servers; rank < world_.size(); ++rank) EXPECT_EQ(step.ranks[static_cast<std::size_t>(rank)].samples, 0) << name;
      }
      if (servers > 1 || bound == 0) continue;
      config_.parallel.async.servers = 2;
      config_.parallel.async.replay = folder_ / name;
      if (world_.size() > 2) {
        const bool would_serve = std::any_of(once.steps.begin(), once.steps.end(), [&](const auto& step) {
          return step.ranks[static_cast<std::size_t>(world_.size() - 2)].samples > 0;
        });
        try {
          train({.folder = "other"});
          EXPECT_FALSE(would_serve);
        } catch (const AgreedError& error) {
          EXPECT_THAT(error.what(), testing::HasSubstr("computed in the recorded run"));
        }
      }
      config_.parallel.async.replay.clear();
    }
  }
}

/// A piece of several local steps is as repeatable as one; and it is another run than one without them.
TEST_F(AsyncTest, LocalStepsAreRepeatedToo) {
  config_.data.batch = 20;
  config_.train.epochs = 4;
  for (const std::int64_t bound : {0, 1, 5}) {
    std::string one_step;
    for (const std::int64_t local_steps : {1, 2, 4}) {
      config_.parallel.async.staleness = bound;
      config_.parallel.async.pieces = bound == 0 ? 0 : 2;
      config_.parallel.async.local_steps = local_steps;
      const std::string name = fmt::format("{}of{}", bound, local_steps);
      const Outcome once = record({.folder = name});
      EXPECT_TRUE(repeat(name).bits == once.bits) << name;
      EXPECT_TRUE(oracle(name) == once.bits) << name;
      EXPECT_LT(once.result.train.loss, once.steps.front().loss) << name;
      if (local_steps == 1) one_step = once.bits;
      EXPECT_EQ(once.bits == one_step, local_steps == 1) << name;
    }
  }
  config_.parallel.async.local_steps = 2;
  try {
    repeat("5of4");
    ADD_FAILURE() << "repeated with another number of local steps";
  } catch (const AgreedError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("of 4 parts"));
  }
}

/// A part that is not finite takes its whole piece along, or is computed again by itself.
TEST_F(AsyncTest, APartThatIsNotFiniteIsLeftOutOrTriedAgain) {
  config_.parallel.async.staleness = 0;
  config_.parallel.async.local_steps = 3;
  config_.data.batch = 3 * world_.size();
  const std::vector<Fault> faults{{.kind = Fault::Kind::nan, .rank = world_.size() - 1, .step = 2, .text = "nan"}};
  config_.train.nonfinite = "retry";
  const Outcome retried = train({.folder = "retry", .faults = faults});
  EXPECT_TRUE(retried.bits == train({.folder = "well"}).bits);
  std::filesystem::remove(folder_ / "faults.log");
  world_.control().barrier();
  config_.train.nonfinite = "skip";
  const Outcome skipped = record({.folder = "skip", .faults = faults});
  EXPECT_FALSE(skipped.bits == retried.bits);
  EXPECT_TRUE(std::isfinite(skipped.result.validation.loss));
  EXPECT_TRUE(repeat("skip").bits == skipped.bits);
}

/// Dropout, augmentation and running statistics go along; so does what a second attempt has made again.
TEST_F(AsyncTest, ARecordRepeatsEverythingElseToo) {
  config_.model.name = "convnet";
  config_.model.norm = "batch";
  config_.model.dropout = 0.2;
  config_.data.augment.pad_crop = 1;
  config_.data.batch = 12;   // two samples each, at least
  config_.train.epochs = 6;
  const Outcome first = record({.folder = "run", .signal_at = 5});
  EXPECT_EQ(first.result.ending, Ending::signal);
  const Outcome rest = record({.folder = "run", .resume = true});
  EXPECT_TRUE(rest.resumed);
  EXPECT_TRUE(repeat("run").bits == rest.bits);
}

TEST_F(AsyncTest, EachSampleIsSeenOncePerEpochAlsoWhenItStopsAndGoesOnWithOtherRanks) {
  auto recorded = std::make_shared<RecordedDataset>(data_.train);
  data_.train = recorded;
  config_.parallel.async.pieces = 3;
  const Outcome first = train({.folder = "parts", .signal_at = 7, .signal_rank = world_.size() - 1});
  EXPECT_EQ(first.result.ending, Ending::signal);
  EXPECT_GE(first.result.steps, 6);
  EXPECT_LT(first.result.steps, 15);
  world_.control().barrier();
  const int fewer = std::max(1, world_.size() - 1);
  if (const auto few = first_ranks(fewer)) {
    const Outcome rest = train(*few, {.folder = "parts", .resume = true});
    EXPECT_TRUE(rest.resumed);
    EXPECT_EQ(rest.result.steps, 15);
    EXPECT_EQ(rest.steps.back().step, 15);
  }
  for (const std::int64_t count : recorded->counts(world_.control())) EXPECT_EQ(count, 3);
}

TEST_F(AsyncTest, EvaluatesSavesAndComparesWhenItIsDue) {
  config_.train.eval_unit = "step";
  config_.train.eval_every = 3;
  config_.checkpoint.every_epochs = 0;
  config_.checkpoint.every_steps = 4;
  const Outcome outcome = train({});
  std::vector<std::int64_t> evaluated;
  for (const auto& record : outcome.evaluations) {
    if (record.split == "validation") evaluated.push_back(record.step);
  }
  EXPECT_EQ(evaluated, (std::vector<std::int64_t>{3, 6, 9, 12, 15}));
  if (world_.rank() == 0) {
    EXPECT_EQ(saved_steps("run"), (std::vector<std::int64_t>{4, 8, 12, 15}));
  }
  std::vector<std::int64_t> steps;
  for (const auto& record : outcome.steps) steps.push_back(record.step);
  std::vector<std::int64_t> all(15);
  std::iota(all.begin(), all.end(), 1);
  EXPECT_EQ(steps, all);
  EXPECT_EQ(outcome.steps_of("staleness").back(), 15);
  for (const std::string& bits : world_.control().all_gather(outcome.bits)) EXPECT_TRUE(bits == outcome.bits);
}

/// One piece's gradient is left out, or computed again; the others count.
TEST_F(AsyncTest, AGradientThatIsNotFiniteIsLeftOutOrTriedAgain) {
  const std::vector<Fault> faults{{.kind = Fault::Kind::nan, .rank = world_.size() - 1, .step = 4, .text = "nan"}};
  for (const std::int64_t bound : {0, 4}) {
    config_.parallel.async.staleness = bound;
    config_.train.nonfinite = "skip";
    config_.data.batch = 2 * world_.size();   // bound 0: every rank has its piece in every step
    const std::string name = std::to_string(bound);
    const Outcome skipped = record({.folder = "skip" + name, .faults = faults});
    for (const auto& step : skipped.steps) EXPECT_EQ(std::isfinite(step.loss), world_.size() > 1 || step.step != 4) << step.step;   // one piece of several
    EXPECT_TRUE(std::isfinite(skipped.result.validation.loss));
    if (bound == 0) {
      EXPECT_THAT(skipped.warnings(), testing::ElementsAre(testing::HasSubstr("its piece was skipped")));
    }
    EXPECT_TRUE(repeat("skip" + name).bits == skipped.bits) << "a record says what was left out";
    std::filesystem::remove(folder_ / "faults.log");
    world_.control().barrier();
    if (bound > 0) continue;
    config_.train.nonfinite = "retry";
    const Outcome retried = train({.folder = "retry", .faults = faults});
    EXPECT_TRUE(retried.bits == train({.folder = "well"}).bits);
    std::filesystem::remove(folder_ / "faults.log");
    world_.control().barrier();
  }
}

TEST_F(AsyncTest, TheLogSaysWhatStalenessHasLeftOfTheLearningRate) {
  config_.parallel.async.staleness_power = 1;
  config_.parallel.bucket_mib = 0;   // one range
  config_.parallel.async.pieces = world_.size() > 2 ? 2 : 1;   // fewer than ranks, so that much is staler than a step
  const Outcome outcome = train({});
  const auto pieces = static_cast<double>(config_.parallel.async.pieces);
  for (const auto& step : outcome.steps) {
    double left = 0;
    for (std::size_t s = 0; s < step.staleness->counts.size(); ++s) {
      left += static_cast<double>(step.staleness->counts[s]) / pieces / std::max(1.0, (1 + static_cast<double>(s)) / pieces);
    }
    EXPECT_NEAR(step.lr, config_.optim.lr * left, 1e-12) << step.step;
  }
}

/// Samples that weigh more count more, though a piece is divided by nothing that only its own samples know.
TEST_F(AsyncTest, WeightsCountAcrossPieces) {
  config_.task.class_weights = std::vector<double>(10, 1);
  config_.task.class_weights[4] = 30;
  config_.data.batch = 23;
  config_.train.epochs = 1;   // one step
  config_.optim.momentum = 0;
  config_.optim.lr = 1e-4;    // so short that it does not matter where a gradient is computed
  config_.parallel.async.pieces = 23;
  const auto moved = [&](const std::string& strategy, const std::string& folder) {
    config_.parallel.strategy = strategy;
    if (strategy == "sync") config_.parallel.async.pieces = 0;
    Learner begin(config_, models_, data_.train->spec(), world_);
    const std::string before = bits_of(begin).substr(0, begin.parameters().flats()[0].values.nbytes());
    const std::string after = train({.folder = folder}).bits;
    const auto values = [](const std::string& bits) { return at::from_blob(const_cast<char*>(bits.data()), {static_cast<std::int64_t>(bits.size() / 4)}, at::kFloat); };
    return at::Tensor(values(after.substr(0, before.size())) - values(before));
  };
  const at::Tensor async = moved("async", "async"), sync = moved("sync", "sync");
  EXPECT_GT((async.dot(sync) / (async.norm() * sync.norm())).item<double>(), 0.999);
}

TEST_F(AsyncTest, ARepetitionThatWasInterruptedGoesOn) {
  record({.folder = "run"});
  const Outcome once = repeat("run");
  config_.parallel.async.replay = folder_ / "run";
  const Outcome first = train({.folder = "parts", .signal_at = 3});
  EXPECT_EQ(first.result.ending, Ending::signal);
  EXPECT_LT(first.result.steps, 15) << "ends where ranks met in the recorded run";
  const Outcome rest = train({.folder = "parts", .resume = true});
  EXPECT_TRUE(rest.resumed);
  EXPECT_TRUE(rest.bits == once.bits);
}

TEST_F(AsyncTest, EndsWhenNothingIsFiniteAnyMore) {
  config_.train.nonfinite = "skip";
  config_.train.epochs = 20;
  config_.parallel.check_every = 0;
  config_.train.eval_every = 100;
  std::vector<Fault> faults;
  for (int rank = 0; rank < world_.size(); ++rank) faults.push_back({.kind = Fault::Kind::nan, .rank = rank, .step = 1, .last_step = 100, .times = 100, .text = "nan"});
  try {
    train({.faults = faults});
    ADD_FAILURE() << "went on";
  } catch (const AgreedError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("steps in a row"));
  }
}

TEST_F(AsyncTest, ARecordThatDoesNotFitIsRefused) {
  record({.folder = "run"});
  config_.parallel.async.replay = folder_ / "run";
  config_.train.epochs = 4;
  try {
    train({.folder = "other"});
    ADD_FAILURE() << "not refused";
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::config);
    EXPECT_THAT(error.what(), testing::HasSubstr("parallel.async.replay"));
  }
  config_.parallel.async.replay = folder_ / "nothing";
  EXPECT_THROW(train({.folder = "other"}), AgreedError);
}

}  // namespace
}  // namespace tugline
