// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "tugline/tests/bench/search_tasks.hpp"

namespace tugline::sweep {

/// Trainings that others have measured, looked up in tables that scripts/bench/search_tables.py wrote into `folder`: HPOBench's networks
/// (error), HPOLib's (loss) and NAS-Bench-201 (error in per cent), each on several data sets: "nasbench201-cifar100". Empty where the
/// folder does not exist; throws IoError for a table that is not whole. `range` is the median less the least value: the largest are of
/// trainings that diverged, up to 1e9 times the median.
std::vector<SearchTask> table_tasks(const std::filesystem::path& folder);

/// The tree of Jenatton et al. 2017, "Bayesian optimization with tree-structured dependencies": three choices decide which two of six
/// reals count.
SearchTask jenatton_task();

}  // namespace tugline::sweep
