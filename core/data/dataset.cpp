// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/data/dataset.hpp"

#include <xxhash.h>

#include <functional>
#include <numeric>

#include "tugline/core/data/fingerprint.hpp"

namespace tugline {
namespace {

std::int64_t bytes_of(const std::vector<std::int64_t>& shape, DType dtype) {
  return std::accumulate(shape.begin(), shape.end(), static_cast<std::int64_t>(size_of(dtype)), std::multiplies<>());
}

}  // namespace

std::int64_t SampleSpec::input_bytes() const { return bytes_of(input_shape, input_dtype); }
std::int64_t SampleSpec::target_bytes() const { return bytes_of(target_shape, target_dtype); }

void Dataset::read_range(std::int64_t first, std::int64_t count, std::span<std::byte> inputs,
                         std::span<std::byte> targets) const {
  const auto input_bytes = static_cast<std::size_t>(spec().input_bytes());
  const auto target_bytes = static_cast<std::size_t>(spec().target_bytes());
  for (std::int64_t i = 0; i < count; ++i) {
    read(first + i, inputs.subspan(i * input_bytes, input_bytes), targets.subspan(i * target_bytes, target_bytes));
  }
}

std::uint64_t digest(std::span<const std::byte> bytes, std::uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

std::uint64_t digest(const SampleSpec& spec, std::uint64_t seed) {
  std::uint64_t value = digest(spec.target_shape, digest(spec.input_shape, seed));
  value = digest(std::vector{static_cast<std::int64_t>(spec.input_dtype), static_cast<std::int64_t>(spec.target_dtype),
                             spec.num_classes},
                 value);
  for (const std::string& name : spec.class_names) value = digest(std::as_bytes(std::span(name)), value);
  return value;
}

}  // namespace tugline
