// SPDX-License-Identifier: Apache-2.0
// The IDX files of the MNIST family: two zero bytes, a type, the number of dimensions, big-endian dimensions, the values.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/file_bytes.hpp"
#include "tugline/core/data/memory_dataset.hpp"
#include "tugline/core/data/source.hpp"
#include "tugline/core/error.hpp"

namespace tugline {
namespace {

enum class IdxType : std::uint8_t {
  ubyte = 0x08,
  sbyte = 0x09,
  int16 = 0x0B,
  int32 = 0x0C,
  float32 = 0x0D,
  float64 = 0x0E
};

std::size_t width_of(IdxType type) {
  switch (type) {
    case IdxType::ubyte:
    case IdxType::sbyte:
      return 1;
    case IdxType::int16:
      return 2;
    case IdxType::int32:
    case IdxType::float32:
      return 4;
    case IdxType::float64:
      return 8;
  }
  return 0;
}

struct IdxFile {
  std::string name;
  IdxType type;
  std::vector<std::int64_t> shape;
  std::string bytes;  // the whole file
  std::size_t data_begin;

  std::int64_t count() const { return shape.front(); }
  std::size_t num_values() const { return (bytes.size() - data_begin) / width_of(type); }
};

std::uint64_t big_endian(std::string_view bytes, std::size_t begin, std::size_t width) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < width; ++i) value = value << 8 | static_cast<std::uint8_t>(bytes[begin + i]);
  return value;
}

double value_at(const IdxFile& file, std::size_t index) {
  const std::size_t width = width_of(file.type);
  const std::uint64_t raw = big_endian(file.bytes, file.data_begin + index * width, width);
  switch (file.type) {
    case IdxType::ubyte:
      return static_cast<std::uint8_t>(raw);
    case IdxType::sbyte:
      return static_cast<std::int8_t>(raw);
    case IdxType::int16:
      return static_cast<std::int16_t>(raw);
    case IdxType::int32:
      return static_cast<std::int32_t>(raw);
    case IdxType::float32:
      return std::bit_cast<float>(static_cast<std::uint32_t>(raw));
    case IdxType::float64:
      return std::bit_cast<double>(raw);
  }
  return 0;
}

IdxFile read_idx(const std::filesystem::path& path) {
  IdxFile file{path.string(), {}, {}, read_file(path), 4};
  const auto fail = [&](const std::string& reason) { throw DataError(file.name + ": " + reason); };
  if (file.bytes.empty()) fail("the file is empty");
  if (file.bytes.size() < 4) fail("the file is cut short: it ends inside its first 4 bytes");
  const auto magic = static_cast<std::uint32_t>(big_endian(file.bytes, 0, 4));
  file.type = static_cast<IdxType>(magic >> 8 & 0xff);
  const std::size_t dimensions = magic & 0xff;
  if (magic >> 16 != 0 || width_of(file.type) == 0 || dimensions == 0) {
    fail(fmt::format("wrong magic number 0x{:08x}: this is no IDX file", magic));
  }
  file.data_begin = 4 + 4 * dimensions;
  if (file.bytes.size() < file.data_begin)
    fail(fmt::format("the file is cut short: it ends inside its {} dimensions", dimensions));

  // In floating point, since dimensions of a damaged file may overflow any integer.
  auto expected = static_cast<double>(width_of(file.type));
  for (std::size_t d = 0; d < dimensions; ++d) {
    file.shape.push_back(static_cast<std::int64_t>(big_endian(file.bytes, 4 + 4 * d, 4)));
    expected *= static_cast<double>(file.shape.back());
  }
  const auto found = static_cast<double>(file.bytes.size() - file.data_begin);
  const std::string shape = fmt::format("{}", fmt::join(file.shape, "x"));
  if (expected == 0) fail(fmt::format("holds no values: its dimensions are {}", shape));
  if (found < expected) {
    fail(fmt::format("the file is cut short: dimensions {} need {:.0f} bytes of values, it has {:.0f}", shape, expected,
                     found));
  }
  if (found > expected) {
    fail(fmt::format("dimensions {} need {:.0f} bytes of values, but the file has {:.0f}", shape, expected, found));
  }
  return file;
}

/// [n, features] stays; [n, height, width] becomes one channel; [n, channels, height, width] stays.
std::vector<std::int64_t> input_shape_of(const IdxFile& file) {
  const auto& shape = file.shape;
  if (shape.size() < 2 || shape.size() > 4) {
    throw DataError(fmt::format("{}: inputs need 2, 3 or 4 dimensions, the file has {}", file.name, shape.size()));
  }
  std::vector<std::int64_t> result(shape.begin() + 1, shape.end());
  if (shape.size() == 3) result.insert(result.begin(), 1);
  return result;
}

MemoryDataset::Inputs inputs_of(const IdxFile& file) {
  if (file.type == IdxType::ubyte) return std::vector<std::uint8_t>(file.bytes.begin() + file.data_begin, file.bytes.end());
  std::vector<float> values(file.num_values());
  const std::size_t per_record = values.size() / file.count();
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(value_at(file, i));
    if (!std::isfinite(values[i])) {
      throw DataError(
          fmt::format("{}: record {}: value {} is not a finite number", file.name, i / per_record, i % per_record));
    }
  }
  return values;
}

std::vector<std::int64_t> labels_of(const IdxFile& file, const LabelCheck& check) {
  if (file.shape.size() != 1 || file.type == IdxType::float32 || file.type == IdxType::float64) {
    throw DataError(
        fmt::format("{}: labels must be one whole number per record, the file has {} dimensions of type 0x{:02x}",
                    file.name, file.shape.size(), static_cast<int>(file.type)));
  }
  std::vector<std::int64_t> labels(file.num_values());
  for (std::size_t i = 0; i < labels.size(); ++i) {
    labels[i] = static_cast<std::int64_t>(value_at(file, i));
    check(static_cast<std::int64_t>(i), labels[i]);
  }
  return labels;
}

/// `like` is the train part; null for the train part itself.
Source open_part(const DataConfig& config, const std::string& inputs_name, const std::string& targets_name,
                 const Dataset* like) {
  const IdxFile inputs = read_idx(below_path(config, inputs_name));
  const IdxFile targets = read_idx(below_path(config, targets_name));
  if (inputs.count() != targets.count()) {
    throw DataError(
        fmt::format("{} has {} records but {} has {}", inputs.name, inputs.count(), targets.name, targets.count()));
  }
  SampleSpec spec;
  spec.input_shape = input_shape_of(inputs);
  auto labels = labels_of(targets, {targets.name, targets.count(), like ? like->spec().num_classes : 0});
  spec.num_classes = like ? like->spec().num_classes : *std::max_element(labels.begin(), labels.end()) + 1;
  if (like && spec.input_shape != like->spec().input_shape) {
    throw DataError(fmt::format("{}: records of shape {}, but the train inputs have {}", inputs.name,
                                fmt::join(spec.input_shape, "x"), fmt::join(like->spec().input_shape, "x")));
  }
  return {std::make_shared<MemoryDataset>(spec, inputs.count(), inputs_of(inputs), labels), labels, {}};
}

}  // namespace

Sources open_idx(const DataConfig& config) {
  Sources sources =
      open_parts(config, "this file name", [&](const auto& inputs, const auto& targets, const Dataset* train) {
        return open_part(config, inputs, targets, train);
      });
  sources.name = below_path(config, config.train_inputs).string();
  return sources;
}

}  // namespace tugline
