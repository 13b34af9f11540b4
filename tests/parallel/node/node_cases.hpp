// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <vector>

namespace tugline {

class Communicator;

/// What a team of ranks of one host promises, whatever its ranks are. Collective; failures are reported to GoogleTest on each rank.
struct NodeCase {
  const char* name;
  std::function<void(Communicator&)> run;
};
const std::vector<NodeCase>& node_cases();

}  // namespace tugline
