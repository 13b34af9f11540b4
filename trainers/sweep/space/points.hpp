// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tugline/trainers/sweep/space/space.hpp"

namespace tugline::sweep {

/// A point of which some values are still open (nullopt); NaN: not active.
using PartialPoint = std::vector<std::optional<double>>;

/// The point with its open values drawn as (seed, number) decide: what was given is active, and it is not forbidden. Throws ConfigError
/// when kDrawAttempts draws give none.
Point completed(const Space& space, const PartialPoint& partial, std::uint64_t seed, std::int64_t number);

/// The point as command-line overrides: "optim.lr=0.0123", the active elements of a list together "model.hidden=[64,32]". Keys with a $ are
/// of the space alone and left out. Reads back to the same numbers.
std::vector<std::string> overrides(const Space& space, const Point& point);

/// By key, without inactive ones: whole numbers as such, all else as text, since JSON parsers do not read real numbers to the last bit.
boost::json::object point_to_json(const Space& space, const Point& point);
/// For other programs: numbers as numbers, rounded to what JSON readers take.
boost::json::object plain_values(const Space& space, const Point& point);
/// The same point, to the bit. Throws ConfigError when it is not one of this space.
Point point_from_json(const Space& space, const boost::json::object& json);

}  // namespace tugline::sweep
