// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "tugline/trainers/sweep/search/search.hpp"

namespace tugline::sweep {

/// Dimensions of the sequence; those beyond are random.
constexpr std::size_t kSobolDimensions = 64;

/// Points of a scrambled Sobol sequence (Sobol' 1967, "On the distribution of points in a cube and the approximate evaluation of
/// integrals"; Joe & Kuo 2008, "Constructing Sobol sequences with better two-dimensional projections"; Owen 1995, "Randomly permuted
/// (t,m,s)-nets and (t,s)-sequences"; Burley 2020, "Practical hash-based Owen scrambling"): far more even than random ones, in particular
/// the first 2^k of them. It does not look at the history. suggest() throws ConfigError where thousands of points in turn are forbidden.
std::unique_ptr<Search> make_sobol(const Space& space, std::uint64_t seed);

/// Coordinate `dimension` of point `number`, in (0, 1), of the sequence that `scramble` (one for each dimension) makes.
double sobol(std::uint32_t number, std::size_t dimension, std::uint32_t scramble);

}  // namespace tugline::sweep
