// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace tugline {

/// The whole content of a file, unpacked when it starts like a gzip file. Throws DataError that names the file.
std::string read_file(const std::filesystem::path& file);

/// Unpacks gzip `bytes`; `name` stands for the file in errors.
std::string gunzip(std::string_view bytes, const std::string& name);

}  // namespace tugline
