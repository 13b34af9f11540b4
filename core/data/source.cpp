// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/data/source.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/error.hpp"

namespace tugline {

Sources open_parts(const DataConfig& config, const std::string& needs, const OpenPart& open) {
  const auto open_named = [&](const char* part, const std::string& inputs, const std::string& targets,
                              const Dataset* train) -> Source {
    if (inputs.empty() && targets.empty() && train) return {};
    if (inputs.empty() || targets.empty()) {
      throw ConfigError(
          fmt::format("data.{}_{}: {} data needs {}", part, inputs.empty() ? "inputs" : "targets", config.name, needs));
    }
    return open(inputs, targets, train);
  };
  Sources sources;
  sources.train = open_named("train", config.train_inputs, config.train_targets, nullptr);
  const Dataset* train = sources.train.data.get();
  sources.validation = open_named("validation", config.validation_inputs, config.validation_targets, train);
  sources.test = open_named("test", config.test_inputs, config.test_targets, train);
  return sources;
}

std::filesystem::path below_path(const DataConfig& config, const std::string& name) {
  return std::filesystem::path(config.path) / name;
}

void LabelCheck::operator()(std::int64_t record, std::int64_t label) const {
  const std::int64_t limit = num_classes > 0 ? num_classes : std::max<std::int64_t>(256, num_samples);
  if (label >= 0 && label < limit) return;
  throw DataError(fmt::format("{}: record {}: label {} is out of range 0 .. {}{}", name, record, label, limit - 1,
                              num_classes > 0 ? ", the classes of the train split" : ""));
}

}  // namespace tugline
