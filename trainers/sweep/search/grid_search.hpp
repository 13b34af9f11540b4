// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "tugline/trainers/sweep/search/search.hpp"

namespace tugline::sweep {

/// Every allowed point once, the last dimension's values changing fastest; a dimension that is not active takes no value, so that no point
/// comes twice. Trial n is point n: suggest() throws ConfigError beyond the last. It does not look at the history.
/// Throws ConfigError where a dimension is real.
std::unique_ptr<Search> make_grid(const Space& space);

/// How many points the grid has. Throws ConfigError where a dimension is real, or after millions.
std::int64_t grid_size(const Space& space);

}  // namespace tugline::sweep
