// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tugline/core/io/checkpoint.hpp"

namespace tugline {

/// What a file in the safetensors format holds (https://github.com/huggingface/safetensors).
struct Safetensors {
  std::map<std::string, Array> arrays;
  std::map<std::string, std::string> metadata;   ///< "__metadata__"; most writers put "format": "pt" there
};

/// Writes `file` through write_file_atomically, byte for byte as the reference implementation lays it out: larger elements first,
/// then by name, every array aligned to its elements. A name is ArrayView.path as it stands. Needs memory of the file's size, once.
/// Throws CheckpointError, and has written nothing then: a name that stands twice or is not UTF-8, a disk that is full.
void write_safetensors(const std::filesystem::path& file, const std::vector<ArrayView>& arrays,
                       const std::map<std::string, std::string>& metadata = {});

/// Reads a file that need not be trusted, wholly into memory: sizes and offsets are checked before they are used, and the memory
/// asked for is in proportion to the file's own size. Throws DataError naming file and tensor: a name that stands twice, bytes that
/// belong to no tensor or to two, an element type that Tugline does not have.
Safetensors read_safetensors(const std::filesystem::path& file);

}  // namespace tugline
