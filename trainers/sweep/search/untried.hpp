// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "tugline/trainers/sweep/search/acquisition.hpp"
#include "tugline/trainers/sweep/space/space.hpp"

namespace tugline::sweep {

/// A random point, not forbidden, and not in `taken` unless all of a finite space are. Throws ConfigError where thousands of draws are all
/// forbidden.
Point untried(const Space& space, std::uint64_t seed, std::int64_t number, const PointSet& taken);

}  // namespace tugline::sweep
