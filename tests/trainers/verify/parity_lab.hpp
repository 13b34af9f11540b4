// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tugline/core/data/memory_dataset.hpp"
#include "tugline/core/models/registry.hpp"
#include "tugline/core/random.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/tests/support/mpi_world.hpp"
#include "tugline/trainers/verify/verify.hpp"

namespace tugline {

/// Small enough to be fast, of a size that no rank count divides: 23 samples in batches of 10, the last has 3.
constexpr std::int64_t kSamples = 23, kBatch = 10, kClasses = 5;

inline std::vector<float> random_values(std::int64_t count, std::uint64_t seed) {
  Random random(seed, Purpose::synthetic);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

inline std::vector<std::int64_t> random_classes(std::int64_t count, std::uint64_t seed) {
  Random random(seed, Purpose::synthetic);
  std::vector<std::int64_t> classes(static_cast<std::size_t>(count));
  for (auto& c : classes) c = static_cast<std::int64_t>(random.below(kClasses));
  return classes;
}

inline std::shared_ptr<const Dataset> classified(std::vector<std::int64_t> input_shape) {
  SampleSpec spec;
  spec.input_shape = std::move(input_shape);
  spec.num_classes = kClasses;
  const auto elements = spec.input_bytes() / static_cast<std::int64_t>(sizeof(float));
  return std::make_shared<MemoryDataset>(spec, kSamples, random_values(kSamples * elements, 1), random_classes(kSamples, 2));
}

inline std::shared_ptr<const Dataset> valued() {
  SampleSpec spec;
  spec.input_shape = {6};
  spec.target_shape = {2};
  spec.target_dtype = DType::float32;
  return std::make_shared<MemoryDataset>(spec, kSamples, random_values(kSamples * 6, 1), random_values(kSamples * 2, 2));
}

/// Tokens as inputs need integer inputs, which MemoryDataset does not hold.
class TokenDataset final : public Dataset {
 public:
  TokenDataset() {
    spec_.input_shape = spec_.target_shape = {kContext};
    spec_.input_dtype = DType::int64;
    spec_.num_classes = kClasses;
  }
  const SampleSpec& spec() const override { return spec_; }
  std::int64_t size() const override { return kSamples; }
  std::uint64_t fingerprint() const override { return 0; }
  void read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const override {
    const auto tokens = random_classes(kContext + 1, 100 + static_cast<std::uint64_t>(index));
    std::memcpy(input.data(), tokens.data(), input.size());
    std::memcpy(target.data(), tokens.data() + 1, target.size());
  }

 private:
  static constexpr std::int64_t kContext = 7;
  SampleSpec spec_;
};

class ParityTest : public MpiWorldTest {
 protected:
  ParityTest() {
    config_.name = "parity";
    config_.data.batch = kBatch;
    config_.model.hidden = {9};
    config_.model.channels = {4, 8};
    config_.model.layers = 2;
    config_.model.heads = 2;
    config_.model.width = 12;
    config_.parallel.bucket_mib = 2e-4;   // many buckets
  }
  VerifyReport verify_now(std::shared_ptr<const Dataset> train) {
    return verify(world_, {config_, models_, std::move(train), nullptr});
  }

  RunConfig config_;
  ModelRegistry models_;
};

}  // namespace tugline
