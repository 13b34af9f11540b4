// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/data/view.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "tugline/core/data/fingerprint.hpp"

namespace tugline {
namespace {

std::int64_t elements_of(const SampleSpec& spec) { return spec.input_bytes() / static_cast<std::int64_t>(sizeof(float)); }

/// How many statistics a data set has; elements_of(spec) / groups_of(spec) neighbours share one.
std::int64_t groups_of(const SampleSpec& spec) { return spec.input_shape.empty() ? 1 : spec.input_shape.front(); }

/// Sums of each group relative to its first value, which keeps them exact where the mean is large.
struct GroupSums {
  double shift = 0, sum = 0, squares = 0;
};

void add_sample(std::span<const float> values, bool first, std::vector<GroupSums>& groups) {
  const std::size_t inner = values.size() / groups.size();
  for (std::size_t g = 0; g < groups.size(); ++g) {
    GroupSums& group = groups[g];
    if (first) group.shift = values[g * inner];
    for (std::size_t i = 0; i < inner; ++i) {
      const double value = values[g * inner + i] - group.shift;
      group.sum += value;
      group.squares += value * value;
    }
  }
}

}  // namespace

View::View(std::shared_ptr<const Dataset> base, std::vector<std::int64_t> indices, const Normalisation& normalisation)
    : base_(std::move(base)), indices_(std::move(indices)), mean_(normalisation.mean) {
  for (const float stddev : normalisation.stddev) scale_.push_back(1 / stddev);
  if (!mean_.empty()) inner_ = elements_of(spec()) / static_cast<std::int64_t>(mean_.size());
}

void View::read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const {
  base_->read(indices_[index], input, target);
  normalise(input);
}

void View::read_range(std::int64_t first, std::int64_t count, std::span<std::byte> inputs,
                      std::span<std::byte> targets) const {
  const auto begin = indices_.begin() + first, end = begin + count;
  const auto gap = std::adjacent_find(begin, end, [](auto left, auto right) { return right != left + 1; });
  if (begin == end || gap != end) return Dataset::read_range(first, count, inputs, targets);
  base_->read_range(indices_[first], count, inputs, targets);
  normalise(inputs);
}

void View::normalise(std::span<std::byte> inputs) const {
  if (mean_.empty()) return;
  auto* value = reinterpret_cast<float*>(inputs.data());
  const float* end = value + inputs.size() / sizeof(float);
  while (value != end) {
    for (std::size_t g = 0; g < mean_.size(); ++g) {
      for (std::int64_t i = 0; i < inner_; ++i, ++value) *value = (*value - mean_[g]) * scale_[g];
    }
  }
}

std::uint64_t View::fingerprint() const { return digest(scale_, digest(mean_, digest(indices_, base_->fingerprint()))); }

Normalisation compute_normalisation(const Dataset& base, std::span<const std::int64_t> indices) {
  const SampleSpec& spec = base.spec();
  if (spec.input_dtype != DType::float32 || indices.empty()) return {};
  const std::int64_t elements = elements_of(spec);
  const auto block_samples = std::clamp<std::int64_t>((1 << 20) / std::max<std::int64_t>(1, spec.input_bytes()), 1, 4096);
  std::vector<float> inputs(block_samples * elements);
  std::vector<std::byte> targets(block_samples * spec.target_bytes());
  std::vector<GroupSums> groups(groups_of(spec));

  // Block by block from the front, since files are fast that way; what lies between the indices is read and left out.
  auto next = indices.begin();
  while (next != indices.end()) {
    const std::int64_t first = *next;
    const std::int64_t count = std::min(block_samples, indices.back() + 1 - first);
    base.read_range(first, count, std::as_writable_bytes(std::span(inputs)).first(count * spec.input_bytes()),
                    std::span(targets).first(count * spec.target_bytes()));
    for (; next != indices.end() && *next < first + count; ++next) {
      add_sample(std::span(inputs).subspan((*next - first) * elements, elements), next == indices.begin(), groups);
    }
  }

  Normalisation result;
  const double n = static_cast<double>(indices.size()) * static_cast<double>(elements) / static_cast<double>(groups.size());
  for (const GroupSums& group : groups) {
    const double mean = group.sum / n;
    const double variance = std::max(0.0, group.squares / n - mean * mean);
    result.mean.push_back(static_cast<float>(group.shift + mean));
    result.stddev.push_back(variance > 0 ? static_cast<float>(std::sqrt(variance)) : 1.0f);
  }
  return result;
}

std::shared_ptr<const Dataset> subset(std::shared_ptr<const Dataset> base, std::vector<std::int64_t> indices) {
  return std::make_shared<View>(std::move(base), std::move(indices), Normalisation{});
}

}  // namespace tugline
