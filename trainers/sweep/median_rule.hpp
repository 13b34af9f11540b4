// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "tugline/trainers/sweep/outcome.hpp"

namespace tugline::sweep {

using Curve = std::vector<Outcome::Evaluated>;   ///< by epochs, ascending

/// The median stopping rule (Golovin et al. 2017, "Google Vizier: a service for black-box optimization"): a trial ends when its best value
/// so far is worse than the median of the means that the others had up to the same epoch (of an even number, the worse of both in the
/// middle). Nothing is stopped before stop.min epochs, nor by fewer than stop.warmup_trials others.
bool is_below_median(const StopSettings& settings, std::span<const Curve> others, const Curve& mine);

}  // namespace tugline::sweep
