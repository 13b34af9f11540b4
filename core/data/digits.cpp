// SPDX-License-Identifier: Apache-2.0
// The 1,797 handwritten digits of UCI's optdigits, 8 x 8 pixels of 0 .. 16, carried inside the library.
#include <fmt/format.h>

#include <charconv>
#include <string_view>
#include <utility>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/digits_file.hpp"
#include "tugline/core/data/file_bytes.hpp"
#include "tugline/core/data/memory_dataset.hpp"
#include "tugline/core/data/source.hpp"
#include "tugline/core/error.hpp"

namespace tugline {

Sources open_digits(const DataConfig&) {
  constexpr std::size_t kPixels = 64;
  const std::string text = gunzip({reinterpret_cast<const char*>(kDigitsFile), kDigitsFileSize}, "digits");
  std::vector<float> pixels;
  std::vector<std::int64_t> labels;
  // 64 pixels and the digit a line, all of them whole numbers.
  std::size_t column = 0;
  const char* end = text.data() + text.size();
  for (const char* at = text.data(); at < end; ++at) {
    int value = 0;
    const auto [rest, status] = std::from_chars(at, end, value);
    if (status != std::errc{})
      throw DataError(fmt::format("digits: record {}: no number in column {}", labels.size(), column));
    if (column < kPixels) {
      pixels.push_back(static_cast<float>(value) / 16);
    } else {
      labels.push_back(value);
    }
    column = (column + 1) % (kPixels + 1);
    at = rest;
  }
  SampleSpec spec;
  spec.input_shape = {1, 8, 8};
  spec.num_classes = 10;
  spec.class_names = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
  const auto count = static_cast<std::int64_t>(labels.size());
  Sources sources;
  sources.name = "digits";
  sources.train = {std::make_shared<MemoryDataset>(spec, count, std::move(pixels), labels), labels, {}};
  return sources;
}

}  // namespace tugline
