// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/random.hpp"

namespace tugline {

/// Random changes of one input after normalisation: pad and crop, then flip, then noise. Immutable; safe from any thread.
class Augment {
 public:
  /// ConfigError when the inputs are no images (pad_crop, flip) or no numbers (noise).
  Augment(const AugmentConfig& config, const SampleSpec& spec);

  bool active() const { return config_.pad_crop > 0 || config_.flip || config_.noise > 0; }
  /// Changes `input` in place; `scratch` is the caller's, to be used again.
  void apply(std::span<std::byte> input, Random& random, std::vector<float>& scratch) const;

 private:
  AugmentConfig config_;
  std::int64_t height_ = 0, width_ = 0;
};

}  // namespace tugline
