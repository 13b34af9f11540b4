// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "tugline/core/config/run_config.hpp"

namespace tugline::config {

/// Values that are each allowed but do not go together.
struct Conflict {
  std::vector<std::string> keys;  // the one to report at comes first
  std::string sentence;
};

std::vector<Conflict> validate(const RunConfig&);

}  // namespace tugline::config
