// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/data/augment.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

struct Shift {
  std::int64_t down, right;
};

/// out[c, y, x] = in[c, y + down, x + right], zero outside.
void crop(std::span<const float> in, std::span<float> out, std::int64_t height, std::int64_t width, Shift shift) {
  std::fill(out.begin(), out.end(), 0.0f);
  const std::int64_t first = std::max<std::int64_t>(0, -shift.right), last = std::min(width, width - shift.right);
  const auto rows = static_cast<std::int64_t>(in.size()) / width;
  for (std::int64_t row = 0; row < rows && first < last; ++row) {
    const std::int64_t y = row % height + shift.down;
    if (y < 0 || y >= height) continue;
    const float* from = in.data() + (row + shift.down) * width + shift.right;
    std::copy(from + first, from + last, out.data() + row * width + first);
  }
}

}  // namespace

Augment::Augment(const AugmentConfig& config, const SampleSpec& spec) : config_(config) {
  const bool image = spec.input_shape.size() == 3 && spec.input_dtype == DType::float32;
  if (image) {
    height_ = spec.input_shape[1], width_ = spec.input_shape[2];
  } else if (config.pad_crop > 0 || config.flip) {
    throw ConfigError(fmt::format("data.augment.{}: these inputs are no images: set it to {}",
                                  config.flip ? "flip" : "pad_crop", config.flip ? "false" : "0"));
  }
  if (config.noise > 0 && spec.input_dtype != DType::float32) {
    throw ConfigError("data.augment.noise: these inputs are tokens: set it to 0");
  }
}

void Augment::apply(std::span<std::byte> input, Random& random, std::vector<float>& scratch) const {
  const std::span<float> values(reinterpret_cast<float*>(input.data()), input.size() / sizeof(float));
  if (config_.pad_crop > 0) {
    const auto draw = [&] { return static_cast<std::int64_t>(random.below(2 * config_.pad_crop + 1)) - config_.pad_crop; };
    const std::int64_t down = draw();
    const std::int64_t right = draw();
    scratch.assign(values.begin(), values.end());
    crop(scratch, values, height_, width_, {down, right});
  }
  if (config_.flip && random.below(2) == 1) {
    for (auto row = values.begin(); row != values.end(); row += width_) std::reverse(row, row + width_);
  }
  if (config_.noise > 0) {
    for (float& value : values) value += static_cast<float>(config_.noise * random.normal());
  }
}

}  // namespace tugline
