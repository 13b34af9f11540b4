// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "tugline/trainers/sweep/search/search.hpp"

namespace tugline::sweep {

/// What to try before there is anything to learn from: a point that is not forbidden, of a trial's number.
using Startup = std::function<Point(std::int64_t number)>;

/// Bayesian optimisation (Jones et al. 1998, "Efficient global optimization of expensive black-box functions"; Snoek et al. 2012,
/// "Practical Bayesian optimization of machine learning algorithms"): a Gaussian process (Matern-5/2, a length scale per dimension) of the
/// values so far, and the point that it expects most improvement of. docs/search-methods.md says what is done otherwise than in the papers.
/// For some hundred trials of a smooth objective; with more it learns from the best and the newest. Running trials count as if they had met
/// its expectation, failed ones as the worst value seen. No point of a finite space is tried twice before all were tried. `space` must
/// outlive it; without `startup` the first points are draws of the space.
std::unique_ptr<Search> make_gp(const Space& space, std::uint64_t seed, Startup startup = {});

}  // namespace tugline::sweep
