// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>
#include <utility>

#include "tugline/core/config/nearest.hpp"
#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/data/source.hpp"
#include "tugline/core/data/splits.hpp"
#include "tugline/core/data/view.hpp"
#include "tugline/core/error.hpp"

namespace tugline {
namespace {

struct Kind {
  std::string_view name;
  const char* help;
  Sources (*open)(const DataConfig&);
};

constexpr std::array kKinds = {
    Kind{"digits", "built in: 1,797 handwritten digits of 8x8 pixels, 10 classes (UCI)", open_digits},
    Kind{"idx", "MNIST family, .gz or not: data.path is the folder, data.train_inputs and data.train_targets the files",
         open_idx},
    Kind{"csv", "a table: data.path is the file, data.label the column to predict (default: the last)", open_csv},
    Kind{"hdf5", "two datasets of a file that may be larger than memory: data.path, data.train_inputs, data.train_targets",
         open_hdf5},
    Kind{"text", "next character or byte: data.path is the file, data.context the length of a sample", open_text},
    Kind{"synthetic", "a noisy linear teacher: data.samples, features, classes (or outputs), noise, seed", open_synthetic},
};

void check_choice(const char* key, const std::string& found, std::span<const std::string_view> known) {
  if (std::find(known.begin(), known.end(), found) != known.end()) return;
  throw ConfigError(fmt::format("{}: '{}' is not one of {}{}", key, found, fmt::join(known, ", "),
                                config::did_you_mean(config::nearest_word(found, known))));
}

const Kind& find_kind(const DataConfig& config) {
  std::vector<std::string_view> names;
  for (const Kind& kind : kKinds) names.push_back(kind.name);
  check_choice("data.name", config.name, names);
  return *std::find_if(kKinds.begin(), kKinds.end(), [&](const Kind& kind) { return kind.name == config.name; });
}

void check_choices(const DataConfig& config) {
  using Words = std::vector<std::string_view>;
  check_choice("data.target", config.target, Words{"class", "value"});
  check_choice("data.categorical", config.categorical, Words{"onehot", "index"});
  check_choice("data.tokens", config.tokens, Words{"characters", "bytes"});
  check_choice("data.split.by", config.split.by, Words{"auto", "given", "random", "time"});
}

std::vector<std::int64_t> all_of(const Dataset& data) {
  std::vector<std::int64_t> indices(data.size());
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

/// How the train file's samples are cut. What has a file of its own is not cut off.
SplitIndices cut(const Sources& sources, const DataConfig& config, std::uint64_t seed) {
  const std::string& by = config.split.by;
  if (by == "given" && config.validation_inputs.empty() && config.test_inputs.empty()) {
    throw ConfigError(
        "data.split.by: given needs files for the other parts: set data.validation_inputs or data.test_inputs");
  }
  if (by == "time" && sources.train.time_rank.empty()) {
    throw ConfigError(
        fmt::format("data.split.by: time needs a time column, which only csv data have, not {}", config.name));
  }
  if (sources.complete) return {all_of(*sources.train.data), {}, {}};
  SplitConfig wanted = config.split;
  const bool files_say = by == "given" || (by == "auto" && sources.validation.data);
  if (sources.validation.data) wanted.validation = 0;
  if (sources.test.data || files_say) wanted.test = 0;
  if (by == "time") return split_by_time(wanted, sources.train.time_rank, sources.name);
  return split_at_random(wanted, sources.train.data->size(), sources.train.classes, seed, sources.name);
}

void check_normalisation(const Normalisation& normalisation, const SampleSpec& spec, const std::string& name) {
  if (normalisation.empty()) return;
  const std::size_t expected = spec.input_dtype != DType::float32 ? 0
                               : spec.input_shape.empty()         ? 1
                                                                  : spec.input_shape.front();
  if (normalisation.mean.size() == expected && normalisation.stddev.size() == expected) return;
  throw DataError(fmt::format("{}: the stored normalisation is for {} features or channels, but these data have {}", name,
                              normalisation.mean.size(), expected));
}

}  // namespace

DataSplits open_data(const DataConfig& config, std::uint64_t seed, const Normalisation* normalisation) {
  check_choices(config);
  const Sources sources = find_kind(config).open(config);
  const SplitIndices parts = cut(sources, config, seed);

  DataSplits splits;
  if (normalisation) {
    check_normalisation(*normalisation, sources.train.data->spec(), sources.name);
    splits.normalisation = *normalisation;
  } else if (config.normalise) {
    std::vector<std::int64_t> ascending = parts.train;
    std::sort(ascending.begin(), ascending.end());
    splits.normalisation = compute_normalisation(*sources.train.data, ascending);
  }
  const auto view = [&](const Source& given, const std::vector<std::int64_t>& carved) {
    return given.data ? std::make_shared<View>(given.data, all_of(*given.data), splits.normalisation)
                      : std::make_shared<View>(sources.train.data, carved, splits.normalisation);
  };
  splits.train = view({}, parts.train);
  splits.validation = view(sources.validation, parts.validation);
  splits.test = view(sources.test, parts.test);
  return splits;
}

std::vector<DatasetInfo> dataset_catalogue() {
  std::vector<DatasetInfo> catalogue;
  for (const Kind& kind : kKinds) catalogue.push_back({std::string(kind.name), kind.help});
  return catalogue;
}

}  // namespace tugline
