// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tugline/core/data/dataset.hpp"

namespace tugline {

struct DataConfig;

/// One set of samples as it lies in its file, before splitting and normalisation.
struct Source {
  std::shared_ptr<const Dataset> data;  // null: not given
  std::vector<std::int64_t> classes;    // one per sample; empty unless classified
  std::vector<std::int64_t> time_rank;  // one per sample; empty without a time column
};

/// What a config names. Only `train` is set when it is still to be split.
struct Sources {
  std::string name;  // of the train file, for errors
  Source train, validation, test;
  bool complete = false;  // parts are final, nothing more is to be carved off train
};

/// One per data.name. They throw DataError (file, record, reason), and ConfigError when a key that they need is empty.
Sources open_digits(const DataConfig&);
Sources open_idx(const DataConfig&);
Sources open_csv(const DataConfig&);
Sources open_hdf5(const DataConfig&);
Sources open_text(const DataConfig&);
Sources open_synthetic(const DataConfig&);

/// Opens the train part, then those of the others whose inputs and targets the config names, with the train part at hand,
/// whose shapes and classes bind them (null for itself). `needs` says what a name is, for the ConfigError when one is
/// missing.
using OpenPart = std::function<Source(const std::string& inputs, const std::string& targets, const Dataset* train)>;
Sources open_parts(const DataConfig& config, const std::string& needs, const OpenPart& open);

/// `name` below data.path; an absolute name, or an empty path, leaves it as it is.
std::filesystem::path below_path(const DataConfig& config, const std::string& name);

/// Whether a class that a file holds is in range: 0 <= label < num_classes where that is known (> 0), else a limit that
/// only damage, or values for regression, exceed. `record` counts from 0.
struct LabelCheck {
  std::string name;  // file (and data set) for errors
  std::int64_t num_samples = 0;
  std::int64_t num_classes = 0;
  void operator()(std::int64_t record, std::int64_t label) const;
};

}  // namespace tugline
