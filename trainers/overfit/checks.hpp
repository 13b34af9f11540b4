// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "tugline/trainers/overfit/finding.hpp"

namespace tugline {

class LoneRank;
class World;
struct GateSetup;

/// Collective. The lowest rank's finding becomes everybody's.
std::optional<Finding> agree_on(World& world, const std::optional<Finding>& mine);

/// Collective. Do samples stay what they are, and are they the same on every rank?
std::optional<Finding> check_samples(const GateSetup& setup);

/// One forward and backward of the untrained model on this rank alone: "non_finite", "labels_change", "no_gradient", "wrong_sign".
std::optional<Finding> check_first_pass(LoneRank& lone);

/// Collective. Two real steps of plain gradient descent by all ranks, each compared with the gradient that one rank computes
/// by itself: "ranks_disagree", "gradients_accumulate", "wrong_sign", "gradient_scale", "no_update".
std::optional<Finding> check_two_steps(const GateSetup& setup, LoneRank& lone);

}  // namespace tugline
