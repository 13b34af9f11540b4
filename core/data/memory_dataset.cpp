// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/data/memory_dataset.hpp"

#include <cstring>
#include <utility>

#include "tugline/core/data/fingerprint.hpp"
#include "tugline/core/error.hpp"

namespace tugline {
namespace {

template <class T>
void copy_row(const std::vector<T>& values, std::int64_t row, std::span<std::byte> out) {
  if (!out.empty()) std::memcpy(out.data(), values.data() + row * (out.size() / sizeof(T)), out.size());
}

void copy_pixels(const std::vector<std::uint8_t>& pixels, std::int64_t row, std::span<std::byte> out) {
  const std::size_t count = out.size() / sizeof(float);
  const std::uint8_t* from = pixels.data() + row * count;
  auto* to = reinterpret_cast<float*>(out.data());
  for (std::size_t i = 0; i < count; ++i) to[i] = from[i] * (1.0f / 255);
}

std::size_t count_of(const auto& values) {
  return std::visit([](const auto& vector) { return vector.size(); }, values);
}

}  // namespace

MemoryDataset::MemoryDataset(SampleSpec spec, std::int64_t size, Inputs inputs, Targets targets)
    : spec_(std::move(spec)), size_(size), inputs_(std::move(inputs)), targets_(std::move(targets)) {
  const auto n = static_cast<std::size_t>(size);
  if (count_of(inputs_) * size_of(spec_.input_dtype) != n * spec_.input_bytes() ||
      count_of(targets_) * size_of(spec_.target_dtype) != n * spec_.target_bytes()) {
    throw Error("a data set in memory was given arrays that do not fit its shapes");
  }
  fingerprint_ = digest(spec_, 0);
  const auto add = [this](const auto& vector) { fingerprint_ = digest(vector, fingerprint_); };
  std::visit(add, inputs_);
  std::visit(add, targets_);
}

void MemoryDataset::read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const {
  if (const auto* pixels = std::get_if<std::vector<std::uint8_t>>(&inputs_)) {
    copy_pixels(*pixels, index, input);
  } else {
    copy_row(std::get<std::vector<float>>(inputs_), index, input);
  }
  std::visit([&](const auto& targets) { copy_row(targets, index, target); }, targets_);
}

}  // namespace tugline
