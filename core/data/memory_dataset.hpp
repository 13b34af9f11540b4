// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "tugline/core/data/dataset.hpp"

namespace tugline {

/// Samples that lie in memory one after the other. Pixels stay bytes and become 0 .. 1 when they are read.
class MemoryDataset final : public Dataset {
 public:
  using Inputs = std::variant<std::vector<float>, std::vector<std::uint8_t>>;
  using Targets = std::variant<std::vector<std::int64_t>, std::vector<float>>;

  /// Sizes must fit `spec`; targets are classes or values as spec.target_dtype says.
  MemoryDataset(SampleSpec spec, std::int64_t size, Inputs inputs, Targets targets);

  const SampleSpec& spec() const override { return spec_; }
  std::int64_t size() const override { return size_; }
  void read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const override;
  std::uint64_t fingerprint() const override { return fingerprint_; }
  bool cheap() const override { return true; }

 private:
  SampleSpec spec_;
  std::int64_t size_;
  Inputs inputs_;
  Targets targets_;
  std::uint64_t fingerprint_;
};

}  // namespace tugline
