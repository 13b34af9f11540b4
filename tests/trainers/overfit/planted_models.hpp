// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "tugline/core/data/dataset.hpp"
#include "tugline/core/models/registry.hpp"

namespace tugline {

/// Two layers with a hole in each place where somebody may plant something.
struct PlantedModel {
  using Change = std::function<at::Tensor(const at::Tensor&)>;
  Change input, middle, output;   ///< null: nothing
  bool output_in_training_only = false;
};

/// Registers it as "planted"; without changes it learns.
void add_planted(ModelRegistry& models, const PlantedModel& plant);

}  // namespace tugline
