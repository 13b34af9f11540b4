// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace tugline {

/// configs/data/digits.csv.gz, made into C++ by the build (embed_file.cmake).
extern const unsigned char kDigitsFile[];
extern const std::size_t kDigitsFileSize;

}  // namespace tugline
