// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

namespace tugline {

/// Writes `text` to `file` so that a reader, or a crash at any moment, sees the old content or the new and nothing between:
/// temporary name in the same folder, fsync, rename, fsync of the folder. Throws IoError and leaves nothing behind.
/// `check`, when given, sees the temporary file before it gets its name; what it throws ends the write and comes through.
void write_file_atomically(const std::filesystem::path& file, std::string_view text,
                           const std::function<void(const std::filesystem::path& temporary)>& check = {});

}  // namespace tugline
