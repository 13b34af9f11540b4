// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/prepare.hpp"

#include <algorithm>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

std::string describe(const Dataset& split) { return fmt::format("{} samples, {:016x}", split.size(), split.fingerprint()); }

}  // namespace

int set_compute_threads(World& world, const ParallelConfig& config) {
  const int shared = default_threads(world);
  const int threads = config.threads > 0 ? static_cast<int>(config.threads) : shared;
  at::set_num_threads(threads);
  return threads;
}

void require_sync_batch_norm_fits(const World& world, const RunConfig& config, std::int64_t smallest_batch) {
  if (smallest_batch < world.size()) {
    throw AgreedError(ExitCode::config, fmt::format(
        "model.batch_norm: sync needs at least one sample per rank in every step, but the smallest global batch has {} and there "
        "are {} ranks; use fewer ranks or larger batches (data.batch, overfit.samples), or data.drop_last: true", smallest_batch,
        world.size()));
  }
  if (config.train.micro_batch > 0 && world.size() > 1) {
    throw AgreedError(ExitCode::config, "model.batch_norm: sync cannot be cut into micro-batches on several ranks; set "
                                        "train.micro_batch: 0 or model.batch_norm: local");
  }
}

StepPlan make_plan(const RunConfig& config, std::int64_t num_samples) {
  StepPlan plan{num_samples, config.data.batch, config.data.drop_last, 0};
  const std::int64_t by_epochs = config.train.epochs * plan.steps_per_epoch();
  plan.total_steps = config.train.steps > 0 ? config.train.steps : by_epochs;
  if (config.train.steps > 0 && config.train.epochs > 0) plan.total_steps = std::min(plan.total_steps, by_epochs);
  return plan;
}

DataSplits open_agreed_data(World& world, const RunConfig& config, const Normalisation* normalisation) {
  DataSplits data;
  agree(world.control(), [&] { data = open_data(config.data, config.seed, normalisation); });
  require_equal(world.control(), {{"training data", describe(*data.train)},
                                  {"validation data", describe(*data.validation)},
                                  {"test data", describe(*data.test)}});
  return data;
}

}  // namespace tugline
