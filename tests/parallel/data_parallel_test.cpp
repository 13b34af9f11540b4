// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/data_parallel.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>

#include <torch/torch.h>

#include "tugline/core/error.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/replicas.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/support/mpi_world.hpp"

namespace tugline {
namespace {

constexpr std::int64_t kFeatures = 6, kOutputs = 4;

/// Two layers, one of which only some samples pass.
struct Net : torch::nn::Module {
  torch::nn::Linear first{nullptr}, rare{nullptr}, second{nullptr};
  explicit Net(std::int64_t hidden = 8) {
    first = register_module("first", torch::nn::Linear(kFeatures, hidden));
    rare = register_module("rare", torch::nn::Linear(kFeatures, hidden));
    second = register_module("second", torch::nn::Linear(hidden, kOutputs));
  }
  at::Tensor forward(const at::Tensor& input, bool with_rare = false) {
    at::Tensor hidden = torch::tanh(first(input));
    if (with_rare) hidden = hidden + rare(input);
    return second(hidden);
  }
};

at::Tensor flat_gradient(const torch::nn::Module& module) {
  std::vector<at::Tensor> parts;
  for (const auto& parameter : module.parameters()) {
    parts.push_back(parameter.grad().defined() ? parameter.grad().flatten().clone() : torch::zeros({parameter.numel()}));
  }
  return torch::cat(parts);
}

at::Tensor flat_values(const torch::nn::Module& module) {
  std::vector<at::Tensor> parts;
  for (const auto& parameter : module.parameters()) parts.push_back(parameter.detach().flatten());
  return torch::cat(parts);
}

class DataParallelTest : public MpiWorldTest {
 protected:
  /// Rank r has r + 1 samples of the shared set, but the last of several ranks has none.
  DataParallelTest() {
    const int ranks = world_.size();
    share_ = [ranks](int rank) { return ranks > 1 && rank == ranks - 1 ? 0 : rank + 1; };
    for (int r = 0; r < ranks; ++r) {
      if (r < world_.rank()) begin_ += share_(r);
      total_ += share_(r);
    }
    torch::manual_seed(11);
    inputs_ = torch::randn({total_, kFeatures});
    targets_ = torch::randint(kOutputs, {total_}, torch::kLong);
    torch::manual_seed(20 + static_cast<std::uint64_t>(world_.rank()));   // models begin unequal
    model_ = std::make_shared<Net>();
  }

  static at::Tensor loss_sum(Net& net, const at::Tensor& inputs, const at::Tensor& targets, bool with_rare = false) {
    return torch::nn::functional::cross_entropy(net.forward(inputs, with_rare), targets,
                                                torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kSum));
  }
  at::Tensor my(const at::Tensor& all) const { return all.slice(0, begin_, begin_ + share_(world_.rank())); }
  std::int64_t mine() const { return share_(world_.rank()); }
  void backward(DataParallel& team, bool with_rare = false) {
    team.backward(loss_sum(*model_, my(inputs_), my(targets_), with_rare), static_cast<double>(mine()));
  }
  /// Gradient of the mean loss over everybody's samples, on one process.
  at::Tensor wanted(const std::function<at::Tensor(Net&)>& mean_loss) const {
    Net reference;
    torch::NoGradGuard no_grad;
    for (std::size_t i = 0; i < reference.parameters().size(); ++i) reference.parameters()[i].copy_(model_->parameters()[i]);
    torch::AutoGradMode grad(true);
    mean_loss(reference).backward();
    return flat_gradient(reference);
  }
  at::Tensor wanted() const {
    return wanted([&](Net& net) { return loss_sum(net, inputs_, targets_) / static_cast<double>(total_); });
  }
  static double difference(const at::Tensor& a, const at::Tensor& b) {
    return ((a - b).abs().max() / b.abs().max()).item<double>();
  }
  bool same_on_all_ranks(const at::Tensor& tensor) {
    const at::Tensor flat = tensor.contiguous();
    return MpiWorldTest::same_on_all_ranks(std::string(static_cast<const char*>(flat.data_ptr()), flat.nbytes()));
  }

  std::function<int(int rank)> share_;
  std::int64_t begin_ = 0, total_ = 0;
  at::Tensor inputs_, targets_;
  std::shared_ptr<Net> model_;
  DataParallelOptions small_buckets_{.bucket_mib = 1e-4};
};

TEST_F(DataParallelTest, AllBeginWithTheValuesOfRankZero) {
  torch::manual_seed(20);
  const Net first;
  DataParallel team(world_, *model_, small_buckets_);
  EXPECT_TRUE(torch::equal(flat_values(*model_), flat_values(first)));
}

TEST_F(DataParallelTest, GradientsAreThoseOfTheMeanLossHoweverTheSamplesAreShared) {
  DataParallel team(world_, *model_, small_buckets_);
  backward(team);
  EXPECT_LE(difference(flat_gradient(*model_), wanted()), 1e-5);
  EXPECT_TRUE(same_on_all_ranks(flat_gradient(*model_)));
  if (mine() > 0) return backward(team);
  team.backward(at::Tensor(), 0);   // an undefined loss is as good as an empty batch
}

TEST_F(DataParallelTest, ABackwardThatThrowsOnOneRankKeepsNobodyWaitingAndSpoilsNoLaterStep) {
  for (const bool shared : {true, false}) {
    small_buckets_.shared_memory = shared;
    DataParallel team(world_, *model_, small_buckets_);
    for (auto* weight : {&model_->second->weight, &model_->first->weight}) {   // before and after some buckets have left
      const auto hook = weight->register_hook([this](const at::Tensor& gradient) -> at::Tensor {
        if (world_.rank() == 0) throw Error("no gradient today");
        return gradient;
      });
      bool thrown = false;
      try {
        backward(team);
      } catch (const std::exception&) {
        thrown = true;
      }
      EXPECT_EQ(thrown, world_.rank() == 0);
      weight->remove_hook(hook);
      model_->zero_grad();
      backward(team);
      EXPECT_LE(difference(flat_gradient(*model_), wanted()), 1e-5) << (shared ? "shared" : "by message");
    }
  }
}

TEST_F(DataParallelTest, GradientsThatAreKeptAccumulateAndEveryZeroGradClears) {
  DataParallel team(world_, *model_, small_buckets_);
  torch::optim::SGD optimizer(model_->parameters(), torch::optim::SGDOptions(0));
  const at::Tensor once = wanted();
  for (const auto& clear : std::vector<std::function<void()>>{
           [&] {}, [&] { optimizer.zero_grad(); }, [&] { optimizer.zero_grad(false); }, [&] { model_->zero_grad(); },
           [&] { model_->zero_grad(false); }}) {
    clear();
    backward(team);
    EXPECT_LE(difference(flat_gradient(*model_), once), 1e-5);
    backward(team);
    backward(team);
    EXPECT_LE(difference(flat_gradient(*model_), 3 * once), 1e-5);
    EXPECT_TRUE(same_on_all_ranks(flat_gradient(*model_)));
  }
}

TEST_F(DataParallelTest, AWindowIsTheMeanOverAllItsPassesOfAllRanks) {
  DataParallel team(world_, *model_, small_buckets_);
  const auto pass = [&](const at::Tensor& inputs, const at::Tensor& targets) {
    team.backward(loss_sum(*model_, inputs, targets), static_cast<double>(inputs.size(0)));
  };
  for (int round = 0; round < 2; ++round) {
    model_->zero_grad();
    {
      auto window = team.no_sync();
      // As many passes as this rank has samples: none on some, and nobody waits for anybody here.
      for (std::int64_t i = 0; i < mine(); ++i) pass(my(inputs_).slice(0, i, i + 1), my(targets_).slice(0, i, i + 1));
    }
    pass(my(inputs_), my(targets_));
    // Every sample came twice: the mean is that of once.
    EXPECT_LE(difference(flat_gradient(*model_), wanted()), 1e-5);
    EXPECT_TRUE(same_on_all_ranks(flat_gradient(*model_)));
  }
}

TEST_F(DataParallelTest, AWindowDoesNotBeginOnOldGradients) {
  DataParallel team(world_, *model_, small_buckets_);
  backward(team);
  auto window = team.no_sync();
  EXPECT_THROW(backward(team), Error);
}

TEST_F(DataParallelTest, AParameterThatOneRankDoesNotUseNeitherHangsNorCorrupts) {
  DataParallel team(world_, *model_, small_buckets_);
  const bool uses = world_.rank() == 0;
  backward(team, uses);
  const at::Tensor reference = wanted([&](Net& net) {
    const std::int64_t first = share_(0);
    const at::Tensor head = loss_sum(net, inputs_.slice(0, 0, first), targets_.slice(0, 0, first), true);
    const at::Tensor tail = loss_sum(net, inputs_.slice(0, first), targets_.slice(0, first));
    return (head + tail) / static_cast<double>(total_);
  });
  EXPECT_LE(difference(flat_gradient(*model_), reference), 1e-5);
  EXPECT_GT(model_->rare->weight.grad().abs().max().item<double>(), 0);
  EXPECT_TRUE(same_on_all_ranks(flat_gradient(*model_)));
}

TEST_F(DataParallelTest, AnyTorchOptimizerKeepsTheReplicasEqual) {
  DataParallel team(world_, *model_, small_buckets_);
  torch::optim::SGD sgd(model_->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  torch::optim::AdamW adamw(model_->parameters(), torch::optim::AdamWOptions(0.01));
  for (torch::optim::Optimizer* optimizer : std::initializer_list<torch::optim::Optimizer*>{&sgd, &adamw}) {
    const at::Tensor start = flat_values(*model_);
    for (int i = 0; i < 20; ++i) {
      optimizer->zero_grad();
      backward(team);
      optimizer->step();
    }
    EXPECT_TRUE(same_on_all_ranks(flat_values(*model_)));
    EXPECT_GT((flat_values(*model_) - start).abs().max().item<double>(), 0.01);
  }
}

TEST_F(DataParallelTest, WeightsThatAddUpToZeroAreAnErrorOnAllRanksAndTheNextPassWorks) {
  DataParallel team(world_, *model_, small_buckets_);
  EXPECT_THROW(team.backward(at::Tensor(), 0), Error);
  {
    auto window = team.no_sync();
    team.backward(at::Tensor(), 0);
  }
  EXPECT_THROW(team.backward(at::Tensor(), 0), Error);
  backward(team);
  EXPECT_LE(difference(flat_gradient(*model_), wanted()), 1e-5);
}

TEST_F(DataParallelTest, BuffersBecomeTheMeanOverTheRanks) {
  struct WithBuffers : torch::nn::Module {
    at::Tensor mean, count, mask, constant;
    explicit WithBuffers(int rank) {
      register_module("layer", torch::nn::Linear(2, 2));
      mean = register_buffer("mean", torch::full({3}, 0.0));
      count = register_buffer("count", torch::full({}, 0, torch::kLong));
      mask = register_buffer("mask", torch::ones({2}, torch::kBool));
      constant = register_buffer("constant", torch::rand({1000}));
    }
  } model(world_.rank());
  DataParallel team(world_, model);
  const at::Tensor constant = model.constant.clone();
  model.mean.fill_(world_.rank());
  model.count.fill_(world_.rank());
  team.average_buffers();
  EXPECT_TRUE(torch::equal(model.mean, torch::full({3}, (world_.size() - 1) / 2.0)));
  EXPECT_EQ(model.count.item<std::int64_t>(), world_.size() - 1);
  EXPECT_TRUE(model.mask.all().item<bool>());
  EXPECT_TRUE(torch::equal(model.constant, constant)) << "equal values stay, bit for bit";
}

TEST_F(DataParallelTest, ModelsThatDifferStopAllRanksWithTheFirstDifference) {
  if (world_.size() == 1) GTEST_SKIP() << "one rank agrees with itself";
  Net mine(world_.rank() == world_.size() - 1 ? 9 : 8);
  std::string text;
  try {
    DataParallel team(world_, mine);
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::disagree);
    text = error.what();
  }
  EXPECT_EQ(text, "ranks disagree on parameter 0: rank 0 has 'first.weight [8, 6] Float', rank " +
                      std::to_string(world_.size() - 1) + " has 'first.weight [9, 6] Float'");
}

}  // namespace
}  // namespace tugline
