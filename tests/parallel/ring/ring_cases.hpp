// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "tugline/parallel/communicator.hpp"

namespace tugline {

/// What a ring promises beyond what every communicator does. All ranks run a case together over any backend; they check with EXPECT_.
struct RingCase {
  const char* name;
  void (*run)(Communicator& inner);
};
const std::vector<RingCase>& ring_cases();

}  // namespace tugline
