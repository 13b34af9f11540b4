// SPDX-License-Identifier: Apache-2.0
#include <fnmatch.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/optim/optimizer.hpp"

namespace tugline {

int group_of(const OptimConfig& config, const std::string& parameter_name, std::int64_t dim) {
  std::size_t index = 0;  // the rest
  for (std::size_t i = 0; i < config.groups.size() && index == 0; ++i) {
    if (fnmatch(config.groups[i].match.c_str(), parameter_name.c_str(), FNM_NOESCAPE) == 0) index = i + 1;
  }
  // A decay that the user gave to this very group counts for all of its parameters.
  const bool explicit_decay = index > 0 && config.groups[index - 1].weight_decay.has_value();
  const bool exempt = dim <= 1 && config.weight_decay != 0 && !config.decay_bias_and_norm && !explicit_decay;
  return static_cast<int>(2 * index + (exempt ? 1 : 0));
}

std::vector<ParamGroup> resolve_groups(const OptimConfig& config) {
  std::vector<ParamGroup> groups = {{1, config.weight_decay}, {1, 0}};
  for (const GroupConfig& group : config.groups) {
    groups.push_back({group.lr_factor, group.weight_decay.value_or(config.weight_decay)});
    groups.push_back({group.lr_factor, 0});
  }
  return groups;
}

}  // namespace tugline
