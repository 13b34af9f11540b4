// SPDX-License-Identifier: Apache-2.0
// Inputs stay in the HDF5 file and are read row by row or in blocks; targets, which are small, are checked and kept in
// memory.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <variant>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/fingerprint.hpp"
#include "tugline/core/data/memory_dataset.hpp"
#include "tugline/core/data/source.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/io/hdf5_array.hpp"

namespace tugline {
namespace {

/// `bytes`, rows of one of the types that Hdf5Array reads, as numbers of type T.
template <class T>
void convert(DType from, std::span<const std::byte> bytes, std::span<T> out) {
  const auto copy = [&]<class F>(const F* values) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<T>(values[i]);
  };
  switch (from) {
    case DType::float32:
      return copy(reinterpret_cast<const float*>(bytes.data()));
    case DType::float64:
      return copy(reinterpret_cast<const double*>(bytes.data()));
    case DType::int32:
      return copy(reinterpret_cast<const std::int32_t*>(bytes.data()));
    case DType::int64:
      return copy(reinterpret_cast<const std::int64_t*>(bytes.data()));
    default:
      return copy(reinterpret_cast<const std::uint8_t*>(bytes.data()));
  }
}

struct Array {
  std::string name;  // "file: dataset", for errors
  Hdf5Array data;

  std::int64_t count() const { return data.shape().front(); }
  std::int64_t row_values() const { return data.row_bytes() / static_cast<std::int64_t>(size_of(data.dtype())); }

  template <class T>
  std::vector<T> rows(std::int64_t first, std::int64_t count) const {
    std::vector<std::byte> bytes(count * data.row_bytes());
    data.read_rows(first, count, bytes.data());
    std::vector<T> values(count * row_values());
    convert<T>(data.dtype(), bytes, values);
    return values;
  }

  void check_finite(std::int64_t first, std::span<const float> values) const {
    const auto bad = std::find_if_not(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
    if (bad == values.end()) return;
    const std::int64_t at = bad - values.begin();
    throw DataError(
        fmt::format("{}: record {}: value {} is not a finite number", name, first + at / row_values(), at % row_values()));
  }
};

class Hdf5Dataset final : public Dataset {
 public:
  using Targets = MemoryDataset::Targets;

  Hdf5Dataset(SampleSpec spec, Array inputs, Targets targets)
      : spec_(std::move(spec)), inputs_(std::move(inputs)), targets_(std::move(targets)) {}

  const SampleSpec& spec() const override { return spec_; }
  std::int64_t size() const override { return inputs_.count(); }

  void read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const override {
    read_range(index, 1, input, target);
  }

  void read_range(std::int64_t first, std::int64_t count, std::span<std::byte> inputs,
                  std::span<std::byte> targets) const override {
    auto values = inputs_.rows<float>(first, count);
    inputs_.check_finite(first, values);
    if (inputs_.data.dtype() == DType::uint8) {
      for (float& value : values) value *= 1.0f / 255;
    }
    std::ranges::copy(std::as_bytes(std::span(values)), inputs.begin());
    const auto copy = [&](const auto& all) {
      std::ranges::copy(std::as_bytes(std::span(all)).subspan(first * spec_.target_bytes(), targets.size()),
                        targets.begin());
    };
    std::visit(copy, targets_);
  }

  /// All targets, and inputs here and there: the file may be larger than anyone wants to read before a run.
  std::uint64_t fingerprint() const override {
    std::uint64_t value = digest(std::vector{size()}, digest(spec_, 0));
    std::visit([&](const auto& all) { value = digest(all, value); }, targets_);
    const std::int64_t probes = std::min<std::int64_t>(size(), 64);
    for (std::int64_t i = 0; i < probes; ++i) {
      value = digest(inputs_.rows<float>(probes > 1 ? i * (size() - 1) / (probes - 1) : 0, 1), value);
    }
    return value;
  }

 private:
  SampleSpec spec_;
  Array inputs_;
  Targets targets_;
};

Array open_array(const DataConfig& config, const std::string& dataset) {
  Array array{fmt::format("{}: {}", config.path, dataset), Hdf5Array::open(config.path, dataset)};
  if (array.count() == 0 || array.row_values() == 0) throw DataError(fmt::format("{}: holds no values", array.name));
  return array;
}

/// [n] and [n, features] are tables, [n, height, width] images of one channel, [n, channels, height, width] stays.
std::vector<std::int64_t> input_shape_of(const Array& array) {
  const auto& shape = array.data.shape();
  if (shape.size() > 4)
    throw DataError(fmt::format("{}: inputs need 1 to 4 dimensions, these have {}", array.name, shape.size()));
  std::vector<std::int64_t> result(shape.begin() + 1, shape.end());
  if (shape.size() == 1 || shape.size() == 3) result.insert(result.begin(), 1);
  return result;
}

std::vector<std::int64_t> classes_of(const Array& targets, std::int64_t num_classes) {
  const bool whole = targets.data.dtype() != DType::float32 && targets.data.dtype() != DType::float64;
  if (!whole || targets.row_values() != 1) {
    throw DataError(
        fmt::format("{}: classes must be one whole number per record, these are {} of {}; for regression set "
                    "data.target: value",
                    targets.name, targets.row_values(), name_of(targets.data.dtype())));
  }
  auto classes = targets.rows<std::int64_t>(0, targets.count());
  const LabelCheck check{targets.name, targets.count(), num_classes};
  for (std::size_t i = 0; i < classes.size(); ++i) check(static_cast<std::int64_t>(i), classes[i]);
  return classes;
}

/// `like` is the train part; null for the train part itself.
Source open_part(const DataConfig& config, const std::string& inputs_name, const std::string& targets_name,
                 const Dataset* like) {
  Array inputs = open_array(config, inputs_name);
  const Array targets = open_array(config, targets_name);
  if (inputs.count() != targets.count()) {
    throw DataError(
        fmt::format("{} has {} records but {} has {}", inputs.name, inputs.count(), targets.name, targets.count()));
  }
  SampleSpec spec;
  spec.input_shape = input_shape_of(inputs);
  Source source;
  Hdf5Dataset::Targets values;
  if (config.target == "class") {
    source.classes = classes_of(targets, like ? like->spec().num_classes : 0);
    spec.num_classes = like ? like->spec().num_classes : *std::ranges::max_element(source.classes) + 1;
    values = source.classes;
  } else {
    spec.target_shape = {targets.row_values()};
    spec.target_dtype = DType::float32;
    auto numbers = targets.rows<float>(0, targets.count());
    targets.check_finite(0, numbers);
    values = std::move(numbers);
  }
  if (like && spec != like->spec()) {
    throw DataError(fmt::format("{}: records of shape {} with targets of shape {}, but the train part has {} and {}",
                                inputs.name, spec.input_shape, spec.target_shape, like->spec().input_shape,
                                like->spec().target_shape));
  }
  source.data = std::make_shared<Hdf5Dataset>(spec, std::move(inputs), std::move(values));
  return source;
}

}  // namespace

Sources open_hdf5(const DataConfig& config) {
  if (config.path.empty()) throw ConfigError("data.path: hdf5 data needs a file name");
  const auto open = [&](const auto& inputs, const auto& targets, const Dataset* train) {
    return open_part(config, inputs, targets, train);
  };
  Sources sources = open_parts(config, "the path of a dataset inside the file", open);
  sources.name = config.path;
  return sources;
}

}  // namespace tugline
