// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string_view>

namespace tugline {

/// Writes `text` to `file` so that a reader, or a crash at any moment, sees the old content or the new and nothing between:
/// temporary name in the same folder, fsync, rename, fsync of the folder. Throws IoError and leaves nothing behind.
void write_file_atomically(const std::filesystem::path& file, std::string_view text);
/// The same for a file in pieces, one after the other. `check`, when given, sees the temporary file while the disk is still busy with it;
/// what it throws ends the write and comes through.
void write_file_atomically(const std::filesystem::path& file, std::span<const std::string_view> pieces,
                           const std::function<void(const std::filesystem::path& temporary)>& check = {});

}  // namespace tugline
