// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tugline/core/dtype.hpp"

namespace tugline {

/// What one sample looks like. Shapes are without the batch dimension.
struct SampleSpec {
  std::vector<std::int64_t> input_shape;   ///< [channels, height, width], [features] or [time]
  DType input_dtype = DType::float32;      ///< float32, or int64 for tokens
  std::vector<std::int64_t> target_shape;  ///< [] for a class, [outputs] for regression, [time] for a language model
  DType target_dtype = DType::int64;       ///< int64 classes or tokens, float32 regression
  std::int64_t num_classes = 0;            ///< classes, or vocabulary of a language model; 0 for regression
  std::vector<std::string> class_names;    ///< may be empty

  std::int64_t input_bytes() const;
  std::int64_t target_bytes() const;
  bool operator==(const SampleSpec&) const = default;
};

/// A finite set of samples that can be read in any order. Immutable after construction; read() is safe from any thread.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual const SampleSpec& spec() const = 0;
  virtual std::int64_t size() const = 0;
  /// Copies sample `index` (0 <= index < size()) into buffers of exactly spec().input_bytes() and target_bytes() bytes.
  /// Throws DataError naming file and record when what lies there is not a valid sample.
  virtual void read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const = 0;
  /// The same for samples first .. first + count - 1, one after the other; one access for what lies on disk.
  virtual void read_range(std::int64_t first, std::int64_t count, std::span<std::byte> inputs,
                          std::span<std::byte> targets) const;
  /// A number that differs when the contents differ; ranks compare it at start.
  virtual std::uint64_t fingerprint() const = 0;
  /// True when read() only copies memory, so that prefetching it would cost more than it saves.
  virtual bool cheap() const { return false; }
};

/// Some samples of another data set, in the given order (the overfit gate's few; a part of a split).
std::shared_ptr<const Dataset> subset(std::shared_ptr<const Dataset> base, std::vector<std::int64_t> indices);

/// Statistics of the train split alone: per feature for inputs of one dimension, else per channel (the first dimension).
/// Empty when nothing is normalised, as for tokens.
struct Normalisation {
  std::vector<float> mean;
  std::vector<float> stddev;  ///< never 0: constant features get 1
  bool empty() const { return mean.empty(); }
};

/// The three parts of a run's data. Train augmentation is applied by the loader, not here. Never null; a part may be of
/// size 0.
struct DataSplits {
  std::shared_ptr<const Dataset> train;
  std::shared_ptr<const Dataset> validation;
  std::shared_ptr<const Dataset> test;
  Normalisation normalisation;  ///< already applied to all three parts
};

struct DataConfig;

/// Opens what `config.data` names and splits it. Throws DataError (file, record, reason) or ConfigError.
/// `normalisation`, when given, is used instead of being computed (evaluation of a checkpoint).
DataSplits open_data(const DataConfig& config, std::uint64_t seed, const Normalisation* normalisation = nullptr);

/// The names open_data knows with a line of help each, for `tugline datasets`.
struct DatasetInfo {
  std::string name;
  std::string help;
};
std::vector<DatasetInfo> dataset_catalogue();

}  // namespace tugline
