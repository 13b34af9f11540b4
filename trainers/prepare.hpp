// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/parallel/sync/sync_strategy.hpp"

namespace tugline {

class World;

/// What commands do before they compute; collective, unless said otherwise.

/// Threads of LibTorch's operators on this rank: parallel.threads, or what the cores and quota of this host give each of its
/// ranks. Returns the number.
int set_compute_threads(World& world, const ParallelConfig& config);

/// Opens the data on every rank and makes sure that all ranks see the same (AgreedError with ExitCode::disagree names the split). `normalisation`
/// as for open_data.
DataSplits open_agreed_data(World& world, const RunConfig& config, const Normalisation* normalisation = nullptr);

/// Sync batch norm talks in every forward pass: all ranks must make the same number of them, each with a sample.
/// `smallest_batch`: samples of the smallest global batch. Throws AgreedError with ExitCode::config. Not collective: same answer everywhere.
void require_sync_batch_norm_fits(const World& world, const RunConfig& config, std::int64_t smallest_batch);

/// How a run on `num_samples` training samples is cut into steps. Not collective.
StepPlan make_plan(const RunConfig& config, std::int64_t num_samples);

}  // namespace tugline
