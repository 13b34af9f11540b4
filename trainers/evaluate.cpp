// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/evaluate.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

#include "tugline/core/clock.hpp"
#include "tugline/core/data/loader.hpp"
#include "tugline/parallel/balance/cut.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/learner.hpp"

namespace tugline {

Evaluation evaluate(Learner& learner, std::shared_ptr<const Dataset> dataset, std::int64_t block, World& world,
                    std::span<const double> speeds) {
  const double start = Clock::steady().seconds();
  const std::int64_t samples = dataset->size();
  const std::int64_t blocks = (samples + block - 1) / block;
  auto order = std::make_shared<SampleOrder>(samples, 0, false);
  Loader loader(std::move(dataset), std::move(order), nullptr, 0, LoaderOptions{.augment = false, .pinned = !learner.device().is_cpu()});

  const auto begin_of = [&](std::int64_t b) { return std::min(b * block, samples); };
  std::vector<double> sums(static_cast<std::size_t>(blocks * 4), 0.0);   // [blocks, 4]; zero where another rank has the block
  const std::vector<double> equal(static_cast<std::size_t>(world.size()), 1);
  const auto shares = cut_by_weight(blocks, speeds.empty() ? equal : speeds);
  const std::int64_t first = std::accumulate(shares.begin(), shares.begin() + world.rank(), std::int64_t{0});
  const std::int64_t last = first + shares[static_cast<std::size_t>(world.rank())];
  learner.heartbeat().enter(Phase::evaluation);
  agree(world.control(), [&] {
    for (std::int64_t b = first; b < last; ++b) {
      if (b + 1 < last) loader.expect(0, begin_of(b + 1), begin_of(b + 2));
      const EvalSums part = learner.evaluate(loader.take(0, begin_of(b), begin_of(b + 1)));
      const double fields[] = {part.loss, part.weight, part.correct, part.counted};
      std::copy(std::begin(fields), std::end(fields), sums.begin() + b * 4);
    }
    learner.heartbeat().enter(Phase::waiting);
  });
  world.control().all_reduce(sums.data(), static_cast<std::int64_t>(sums.size()), DType::float64);

  EvalSums total;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const double* part = sums.data() + b * 4;
    total += EvalSums{part[0], part[1], part[2], part[3]};
  }
  Evaluation result;
  result.samples = samples;
  result.loss = total.weight > 0 ? total.loss / total.weight : 0;
  result.has_accuracy = learner.task().has_accuracy() && total.counted > 0;
  result.accuracy = result.has_accuracy ? total.correct / total.counted : 0;
  result.seconds = Clock::steady().seconds() - start;
  return result;
}

}  // namespace tugline
