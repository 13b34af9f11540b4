// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/error.hpp"
#include "tugline/tests/fuzz/targets/target.hpp"

namespace tugline::fuzz {

/// Opens the data and reads every sample of the train part; a DataError may say why not.
inline void read_samples(const DataConfig& config) {
  reads_or_says_why<DataError>([&] {
    const DataSplits splits = open_data(config, 0);
    const SampleSpec& spec = splits.train->spec();
    std::vector<std::byte> input(spec.input_bytes()), target(spec.target_bytes());
    for (std::int64_t i = 0; i < splits.train->size(); ++i) splits.train->read(i, input, target);
  });
}

}  // namespace tugline::fuzz
