// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"

namespace tugline {

class World;

/// What every command does before it computes. All of it is collective.

/// Threads of LibTorch's operators on this rank: parallel.threads, or what the cores and quota of this host give each of its
/// ranks. Returns the number.
int set_compute_threads(World& world, const ParallelConfig& config);

/// Opens the data on every rank and makes sure that all ranks see the same (DisagreeError names the split). `normalisation`
/// as for open_data.
DataSplits open_agreed_data(World& world, const RunConfig& config, const Normalisation* normalisation = nullptr);

}  // namespace tugline
