// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "tugline/trainers/sweep/search/search.hpp"

namespace tugline::sweep {

/// Points drawn at random, uniform on each dimension's scale (Bergstra & Bengio 2012, "Random search for hyper-parameter optimization"). It
/// does not look at the history, and its points do not depend on it. suggest() throws ConfigError where thousands of draws are all
/// forbidden.
std::unique_ptr<Search> make_random(const Space& space, std::uint64_t seed);

/// The first point of `at(0), at(1), ...` that is not forbidden; throws ConfigError after thousands.
Point first_allowed(const Space& space, const std::function<Point(int attempt)>& at);

}  // namespace tugline::sweep
