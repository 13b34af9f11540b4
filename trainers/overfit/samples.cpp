// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/overfit/samples.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "tugline/core/data/fingerprint.hpp"
#include "tugline/trainers/overfit/overfit.hpp"

namespace tugline {
namespace {

/// A class that has not shown up by then is done without.
constexpr std::int64_t kMaxSamplesRead = 100'000;

struct Sample {
  std::vector<std::byte> input, target;
  bool operator==(const Sample&) const = default;
};

Sample read_sample(const Dataset& data, std::int64_t index) {
  Sample sample{std::vector<std::byte>(static_cast<std::size_t>(data.spec().input_bytes())),
                std::vector<std::byte>(static_cast<std::size_t>(data.spec().target_bytes()))};
  data.read(index, sample.input, sample.target);
  return sample;
}

std::int64_t class_of(const Dataset& data, const Sample& sample) {
  std::int64_t label = 0;
  if (is_classification(data.spec())) std::memcpy(&label, sample.target.data(), sizeof label);
  return label;
}

std::string target_text(const Dataset& data, const Sample& sample) {
  if (!is_classification(data.spec())) return "targets that differ";
  const auto label = static_cast<std::size_t>(class_of(data, sample));
  const auto& names = data.spec().class_names;
  return label < names.size() ? names[label] : std::to_string(label);
}

}  // namespace

bool is_classification(const SampleSpec& spec) { return spec.num_classes > 0 && spec.target_shape.empty(); }

std::vector<std::int64_t> choose_samples(const Dataset& train, std::int64_t count) {
  const std::int64_t classes = is_classification(train.spec()) ? train.spec().num_classes : 1;
  const std::int64_t per_class = (count + classes - 1) / classes;
  std::map<std::int64_t, std::vector<std::int64_t>> of_class;
  std::set<std::uint64_t> seen;
  std::vector<std::int64_t> others;   // beyond their class's part: they fill up where classes are missing
  std::int64_t full_classes = 0;
  for (std::int64_t i = 0; i < std::min(train.size(), kMaxSamplesRead) && full_classes < classes; ++i) {
    const Sample sample = read_sample(train, i);
    if (!seen.insert(digest(sample.target, digest(sample.input, 0))).second) continue;
    auto& mine = of_class[class_of(train, sample)];
    if (std::ssize(mine) < per_class) {
      mine.push_back(i);
      full_classes += std::ssize(mine) == per_class;
    } else if (std::ssize(others) < count) {
      others.push_back(i);
    }
  }
  std::vector<std::int64_t> chosen;
  for (std::int64_t round = 0; round < per_class; ++round) {
    for (const auto& [label, mine] : of_class) {
      if (round < std::ssize(mine)) chosen.push_back(mine[static_cast<std::size_t>(round)]);
    }
  }
  chosen.insert(chosen.end(), others.begin(), others.end());
  chosen.resize(static_cast<std::size_t>(std::min<std::int64_t>(count, std::ssize(chosen))));
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

std::optional<Finding> find_changing_samples(const Dataset& data) {
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const Sample first = read_sample(data, i);
    const Sample again = read_sample(data, i);
    if (first.target != again.target) {
      return Finding{"labels_change", fmt::format(
          "Sample {} has another label each time it is read ({}, then {}). Labels must be a fixed function of the sample.", i,
          target_text(data, first), target_text(data, again))};
    }
    if (first.input != again.input) {
      return Finding{"inputs_change", fmt::format("Sample {} has another input each time it is read, though augmentation is off: "
                                                  "Dataset::read must not be random.", i)};
    }
  }
  return std::nullopt;
}

std::uint64_t digest_of_samples(const Dataset& data) {
  std::uint64_t value = 0;
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const Sample sample = read_sample(data, i);
    value = digest(sample.target, digest(sample.input, value));
  }
  return value;
}

std::optional<Finding> find_constant_input(const Dataset& data) {
  if (data.size() < 2) return std::nullopt;
  const Sample first = read_sample(data, 0);
  for (std::int64_t i = 1; i < data.size(); ++i) {
    if (read_sample(data, i).input != first.input) return std::nullopt;
  }
  const bool zeros = std::all_of(first.input.begin(), first.input.end(), [](std::byte b) { return b == std::byte{0}; });
  return Finding{"constant_input", fmt::format(
      "All {} samples have the same input{}, so the output cannot depend on it. Look at how the data is read and normalised.",
      data.size(), zeros ? " (all zeros)" : "")};
}

std::optional<Finding> find_conflicting_labels(const Dataset& data) {
  std::map<std::vector<std::byte>, std::pair<std::int64_t, Sample>> by_input;
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const Sample sample = read_sample(data, i);
    const auto [known, is_new] = by_input.try_emplace(sample.input, i, sample);
    if (is_new || known->second.second.target == sample.target) continue;
    return Finding{"conflicting_labels", fmt::format(
        "Samples {} and {} of the {} have the same input and different labels ({} and {}): no model can learn both. Remove "
        "duplicates from the data or correct their labels.", known->second.first, i, data.size(),
        target_text(data, known->second.second), target_text(data, sample))};
  }
  return std::nullopt;
}

}  // namespace tugline
