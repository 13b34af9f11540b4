// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tugline/core/random.hpp"
#include "tugline/trainers/sweep/search/search.hpp"

namespace tugline::sweep {

/// Regularised evolution (Real et al. 2019, "Regularized evolution for image classifier architecture search"): a child is a mutant of the
/// winner of a tournament, and of the population the oldest dies, however good it is. For budgets of some hundred trials children are
/// screened: many are made, and a Gaussian process of the trials so far says which one to try (Wei et al. 2020, "NPENAS: neural predictor
/// guided evolution for neural architecture search"; White et al. 2021, "BANANAS: Bayesian optimization with neural architectures for
/// neural architecture search"). docs/search-methods.md says what is done otherwise. It searches any space; large ones of choices, such as
/// architectures, are what it is for. No point of a finite space is tried twice before all were tried. `space` must outlive it.
std::unique_ptr<Search> make_regevo(const Space& space, std::uint64_t seed);

constexpr std::size_t kPopulation = 50;

/// Those that may have children: the newest kPopulation of the trials that have ended well, oldest first.
std::vector<Observation> population(std::span<const Observation> history);

/// `parent` with at least one active dimension changed: a choice to another value, a number by a step on its scale. What becomes active is
/// drawn afresh. It may be forbidden.
Point mutant(const Space& space, const Point& parent, Random& random);

}  // namespace tugline::sweep
