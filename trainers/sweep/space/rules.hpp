// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "tugline/trainers/sweep/space/expression.hpp"
#include "tugline/trainers/sweep/space/parameters.hpp"

namespace tugline::sweep {

/// What a space is made of: dimensions, those that decide about others first.
struct Rules {
  std::vector<Dimension> dimensions;
  std::vector<std::vector<Expression>> conditions;   ///< per dimension: it is active when all hold
  std::vector<std::size_t> parameters;               ///< per dimension: the one it belongs to
  std::vector<Expression> forbidden;
};

/// Makes dimensions of the parameters, reads their conditions and `forbid` (null: nothing is forbidden), and sorts. Sets `elements` of the
/// parameters. What it returns is only whole when it had no problems.
Rules read_rules(std::vector<ReadParameter>& parameters, const config::Tree* forbid, config::Problems& problems);

/// Whether there may be a point where the dimension is active. Errs on the side of yes.
bool can_be_active(const Rules& rules, std::size_t dimension);

Space make_space(Rules rules);

/// `first:`, each entry as a point of which some values may be open (null: there is none).
std::vector<PartialPoint> read_first(const config::Tree* first, const Rules& rules, const std::vector<ReadParameter>& parameters,
                                     config::Problems& problems);

}  // namespace tugline::sweep
