// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "tugline/trainers/sweep/search/search.hpp"

namespace tugline::sweep {

/// Tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter optimization"; Watanabe 2023, "Tree-structured
/// Parzen estimator: understanding its algorithm components and their roles for better empirical performance"), multivariate;
/// docs/search-methods.md says what is done otherwise. Of many points near the best trials it suggests the one whose density among the
/// best, divided by that among all others, is highest. Running trials count among the others, so that workers keep apart (constant liar);
/// failed ones as the worst. It starts with ten Sobol points, and makes no point twice while it finds another. suggest() throws ConfigError
/// where thousands of points in turn are forbidden.
std::unique_ptr<Search> make_tpe(const Space& space, std::uint64_t seed);

}  // namespace tugline::sweep
