// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <limits>
#include <string_view>
#include <vector>

namespace tugline::config {

/// Which values a key takes beyond its type.
struct Allowed {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool min_open = false;  // the bound itself is not allowed
  bool max_open = false;
  std::vector<std::string_view> choices;  // empty: any text

  bool contains(double value) const {
    return (min_open ? value > min : value >= min) && (max_open ? value < max : value <= max);
  }
};

/// What the type of a key cannot say. "optim.groups[].match" is the key `match` in each entry of the list `optim.groups`.
struct Note {
  std::string_view key;
  std::string_view help;
  std::string_view unit;
  Allowed allowed;
};

/// One note per key of RunConfig, in order of declaration; a test holds the two together.
const std::vector<Note>& notes();

}  // namespace tugline::config
