// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "tugline/core/data/dataset.hpp"
#include "tugline/trainers/overfit/finding.hpp"

namespace tugline {

/// One class per sample, as against values or a token per position.
bool is_classification(const SampleSpec& spec);

/// Reads every sample twice: "labels_change" or "inputs_change".
std::optional<Finding> find_changing_samples(const Dataset& data);
/// "constant_input": all samples have one input.
std::optional<Finding> find_constant_input(const Dataset& data);
/// "conflicting_labels": one input with two targets.
std::optional<Finding> find_conflicting_labels(const Dataset& data);

std::uint64_t digest_of_samples(const Dataset& data);

}  // namespace tugline
