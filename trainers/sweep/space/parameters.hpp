// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "tugline/core/config/tree.hpp"
#include "tugline/trainers/sweep/space/sweep_config.hpp"

namespace tugline::sweep {

/// A parameter and where it stands.
struct ReadParameter {
  Parameter parameter;
  const config::Tree* tree = nullptr;   ///< the entry of `space:`
  bool in_config = false;               ///< its key is one of the config schema
  bool broken = false;                  ///< something is wrong with it, and was told: what follows from it need not be
};

/// The entries of `space:`, one by one. `of_config`: keys are those of the config schema, except where they begin with $.
std::vector<ReadParameter> read_parameters(const config::Tree& space, bool of_config, config::Problems& problems);

}  // namespace tugline::sweep
