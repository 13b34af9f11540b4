// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace tugline {

/// A file that only grows, one write(2) per record, so that a crash can tear the last record and no other. Closes
/// itself.
class AppendFile {
 public:
  /// Makes the file where there is none. Throws IoError.
  explicit AppendFile(std::filesystem::path file);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  /// False when not all of it could be written; the first such time warns.
  bool append(std::string_view bytes) noexcept;
  /// True when the file has bytes and the last one is not `byte`.
  bool ends_without(char byte) const noexcept;

 private:
  std::filesystem::path file_;
  int fd_ = -1;
  bool warned_ = false;
};

}  // namespace tugline
