// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tugline/core/data/dataset.hpp"

namespace tugline {

/// XXH3 of some bytes, continued from `seed`, so that several arrays make one number.
std::uint64_t digest(std::span<const std::byte> bytes, std::uint64_t seed);
std::uint64_t digest(const SampleSpec& spec, std::uint64_t seed);

template <class T>
std::uint64_t digest(const std::vector<T>& values, std::uint64_t seed) {
  return digest(std::as_bytes(std::span(values)), seed);
}

}  // namespace tugline
