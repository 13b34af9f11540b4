// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "tugline/parallel/communicator.hpp"

namespace tugline {

/// What every backend must do, one case a promise of communicator.hpp. All ranks run a case together; they check with EXPECT_.
struct ConformanceCase {
  const char* name;
  void (*run)(Communicator&);
};
const std::vector<ConformanceCase>& conformance_cases();

}  // namespace tugline
